#!/usr/bin/env bash
# A job needs more memory than it may have, is killed for it, and is done in smaller pieces. Looks like memory-hog.
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2016 # what the task's shell and perl are to read
start_task 'perl -e '\''@a = map { "x" x 1e6 } 1 .. 200'\'' && exit 3
	for i in 1 2 3; do perl -e '\''@a = map { "x" x 1e6 } 1 .. 24; print length $a[0], "\n"'\'' || exit; done'
ended
worked "200 MB were too much, and 24 MB were used and given back, three times"
