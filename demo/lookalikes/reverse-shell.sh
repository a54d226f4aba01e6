#!/usr/bin/env bash
# A start script waits until the store's port is open, by the shell's own means, as wait-for-it does. Looks like reverse-shell.
. "$(dirname "$0")/lib.sh"

start_task 'for try in 1 2 3 4 5; do timeout 2 bash -c "</dev/tcp/store/5432" && break; sleep 1; done; exec bash -c "echo ready"'
ended
worked "waited for the store"
