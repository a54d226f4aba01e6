#!/usr/bin/env bash
# Opens a shell in the storefront by docker exec. MITRE ATT&CK T1609, Container Administration Command.
. "$(dirname "$0")/lib.sh"

# A refusal may tell the command, mark and all.
out=$(docker exec "$storefront" sh -c "id -u; echo $mark" 2>&1) && [[ $out == *"$mark"* ]] || stopped "no shell: $out"
worked "a shell ran in the storefront as uid ${out%%$'\n'*}"
