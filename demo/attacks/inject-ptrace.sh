#!/usr/bin/env bash
# Makes the running storefront execute foreign code by ptrace: it writes a file and goes on. MITRE ATT&CK T1055.008, Ptrace System Calls.
. "$(dirname "$0")/lib.sh"

[ "$(docker version --format '{{.Server.Arch}}')" = amd64 ] || cannot "the injector is written for amd64 only"
later "in_storefront rm -f /tmp/$mark /tmp/$mark.out"
out=$(through_label "$(fetch_tool "/tmp/$mark"); /tmp/$mark inject 1 /tmp/$mark.out $mark; cat /tmp/$mark.out")
[[ $out == *"foreign code"*"$mark" ]] || stopped "no code ran: $out"
[ "$(part storefront)" = "$storefront" ] || stopped "the storefront died of it"
worked "${out%%$'\n'*}"
