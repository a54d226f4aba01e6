#!/usr/bin/env bash
# Has a program of the storefront load a shared object of the attacker's by LD_PRELOAD. MITRE ATT&CK T1574.006, Dynamic Linker Hijacking.
. "$(dirname "$0")/lib.sh"

[ "$(docker version --format '{{.Server.Arch}}')" = amd64 ] || cannot "the shared object is written for amd64 only"
later "in_storefront rm -f /tmp/$mark /tmp/$mark.so /tmp/$mark.out"
out=$(through_label "$(fetch_tool "/tmp/$mark"); /tmp/$mark library /tmp/$mark.out $mark >/tmp/$mark.so
LD_PRELOAD=/tmp/$mark.so date; cat /tmp/$mark.out")
[[ $out == *"$mark" && $out != *rror* ]] || stopped "the object was not loaded: $out"
worked "date ran the object's code before its own, and said: ${out%%$'\n'*}"
