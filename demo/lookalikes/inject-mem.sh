#!/usr/bin/env bash
# Looks at processes as ps and monitors do, and a program reads its own memory. Looks like inject-mem.
. "$(dirname "$0")/lib.sh"

start_task 'set -e; cat /proc/[0-9]*/stat /proc/[0-9]*/status /proc/1/cmdline /proc/1/maps >/dev/null 2>&1 || true
perl -e '\''open F, "<", "/proc/self/maps" or die; ($at) = <F> =~ /^([0-9a-f]+)/; open M, "<", "/proc/self/mem" or die; seek M, hex $at, 0; read(M, $b, 4) == 4 or die; print unpack("H*", $b), "\n"'\'''
ended
worked "a program read its own memory: $(docker logs "$task" 2>&1 | tail -n 1)"
