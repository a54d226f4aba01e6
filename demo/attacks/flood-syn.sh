#!/usr/bin/env bash
# Floods the store with half-open TCP connections from the storefront: 3 seconds, 20,000 at most. MITRE ATT&CK T1498.001, Direct Network Flood.
. "$(dirname "$0")/lib.sh"

later "in_storefront rm -f /tmp/$mark"
out=$(through_label "$(fetch_tool "/tmp/$mark"); /tmp/$mark syn store 5432")
[[ $out =~ ^[0-9]+$ && $out -ge 300 ]] || stopped "few were answered: $out"
worked "the store answered $out half-open connections"
