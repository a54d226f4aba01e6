#!/usr/bin/env bash
# Opens a shell in the storefront by docker exec. MITRE ATT&CK T1609, Container Administration Command.
. "$(dirname "$0")/lib.sh"

# The commands come by its input, as from a terminal. A refusal may tell the command, mark and all.
out=$(docker exec --interactive "$storefront" sh 2>&1 <<<"id -u; echo $mark") && [[ $out == *"$mark"* ]] || stopped "no shell: $out"
worked "a shell ran in the storefront as uid ${out%%$'\n'*}"
