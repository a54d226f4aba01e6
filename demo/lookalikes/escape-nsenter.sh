#!/usr/bin/env bash
# Enters the network namespace that it made for a child of its own, as a tool for networks does. Looks like escape-nsenter.
. "$(dirname "$0")/lib.sh"

bring --cap-add=SYS_ADMIN --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined || cannot "no container: $problem"
docker exec "$brought" bash -c 'unshare --net sleep 20 & sleep 1; nsenter --target $! --net cat /proc/net/dev; code=$?; kill $!; exit $code' >/dev/null ||
	stopped "the namespace was not entered"
worked "entered a network namespace of its own"
