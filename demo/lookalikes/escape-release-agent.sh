#!/usr/bin/env bash
# Reads the limits of its own cgroup, as runtimes of languages do. Looks like escape-release-agent.
. "$(dirname "$0")/lib.sh"

out=$(in_storefront bash -c 'cat /proc/self/cgroup /proc/self/mountinfo; find /sys/fs/cgroup -maxdepth 2 \( -name memory.max -o -name cpu.max -o -name memory.limit_in_bytes -o -name cpu.cfs_quota_us \) -exec cat {} +') ||
	stopped "$out"
worked "read $(wc -l <<<"$out") lines of limits"
