#!/usr/bin/env bash
# Runs 400 short programs, 8 at a time, as a build does. Looks like fork-bomb.
. "$(dirname "$0")/lib.sh"

start_task 'seq 400 | xargs -P 8 -n 1 sha256sum /etc/passwd >/dev/null 2>&1; seq 200 | xargs -P 8 -I{} sh -c "echo {} | sha1sum" >/dev/null'
ended
worked "600 programs ran"
