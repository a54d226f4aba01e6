#!/usr/bin/env bash
# Has programs load a library of the image first, as stdbuf does and those who change the allocator. Looks like inject-preload.
. "$(dirname "$0")/lib.sh"

start_task 'set -e; stdbuf -oL cat /etc/hostname; LD_PRELOAD=$(ls /lib/*-linux-gnu/libm.so.6) date; export LD_LIBRARY_PATH=/usr/lib; exec date'
ended
worked "programs ran with a library of the image's own"
