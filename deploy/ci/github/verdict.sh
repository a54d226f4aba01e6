#!/usr/bin/env bash
# Adds up what the scans said, sets the outputs, and fails if the policy is violated.
set -euo pipefail

declare -A sum=()
verdict=none
for kind in iac git image; do
    file=$CASTELLAN_REPORTS/$kind.env
    [ -f "$file" ] || continue
    while IFS='=' read -r name value; do
        name=${name#CASTELLAN_}
        name=${name,,}
        case $name:$value in
        verdict:failed) verdict=failed ;;
        verdict:passed) [ "$verdict" = failed ] || verdict=passed ;;
        verdict:*) ;;
        *) sum[$name]=$((${sum[$name]:-0} + value)) ;;
        esac
    done <"$file"
done
{
    echo "verdict=$verdict"
    echo "sarif=$CASTELLAN_REPORTS/sarif"
    for name in violations vulnerabilities secrets faults malware critical high medium low; do
        echo "$name=${sum[$name]:-0}"
    done
} >>"$GITHUB_OUTPUT"
if [ "$verdict" = failed ]; then
    echo "the policy is violated by ${sum[violations]}"
    [ "$CASTELLAN_FAIL" = false ] || exit 3
fi
