#!/usr/bin/env bash
# Forks until the container's limit of 64 processes is reached, for 6 seconds at most. MITRE ATT&CK T1499.001, OS Exhaustion Flood.
. "$(dirname "$0")/lib.sh"

bring || stopped "no container to fill: $problem"
out=$(timeout 6 docker exec "$brought" bash -c 'bomb() { bomb | bomb & }; bomb; sleep 3' 2>&1)
n=$(grep -c 'Resource temporarily unavailable' <<<"$out")
[ "$n" -gt 0 ] || stopped "the limit was not reached: ${out:0:200}"
worked "the container could not fork any more, $n times"
