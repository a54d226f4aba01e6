#!/usr/bin/env bash
# Takes memory until the kernel kills the process at the container's limit of 64 MiB. MITRE ATT&CK T1499.001, OS Exhaustion Flood.
. "$(dirname "$0")/lib.sh"

bring || stopped "no container to fill: $problem"
docker exec "$brought" timeout 20 perl -e 'while (@a < 1000) { push @a, "x" x 1e6 }'
case $? in
137) worked "the kernel killed it for want of memory (exit code 137)" ;;
*) stopped "exit code $? instead of the kernel's 137" ;;
esac
