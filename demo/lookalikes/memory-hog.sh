#!/usr/bin/env bash
# Takes half of the container's memory for a moment, three times. Looks like memory-hog.
. "$(dirname "$0")/lib.sh"

start_task 'for i in 1 2 3; do perl -e '\''@a = map { "x" x 1e6 } 1 .. 24; print length $a[0], "\n"'\'' || exit; done'
ended
worked "24 MB were used and given back, three times"
