#!/usr/bin/env bash
# The engine runs the container's health check, a shell command, again and again. Looks like shell-exec.
. "$(dirname "$0")/lib.sh"

start_task 'sleep 6' --health-cmd 'test -e /etc/hostname && grep -q root /etc/passwd' --health-interval 1s
ended
worked "health checks ran: $(docker inspect --format '{{len .State.Health.Log}}' "$task")"
