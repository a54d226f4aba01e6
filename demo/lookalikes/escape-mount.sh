#!/usr/bin/env bash
# Writes a backup to a folder that is mounted for it, and reads it. Looks like escape-mount.
. "$(dirname "$0")/lib.sh"

make_scratch
start_task 'set -e; tar -czf /backup/etc.tar.gz -C / etc/apt etc/default; tar -tzf /backup/etc.tar.gz | wc -l; cp /etc/hostname /backup/host; ls -lR /backup' \
	--volume "$scratch:/backup"
ended
worked "$(docker logs "$task" 2>&1 | head -n 1) files are in the backup"
