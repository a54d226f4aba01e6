#!/usr/bin/env bash
# A program traces a child of its own, as test tools and strace do. Looks like inject-ptrace.
. "$(dirname "$0")/lib.sh"

case $(uname -m) in x86_64) call=101 ;; aarch64) call=117 ;; *) cannot "the number of ptrace is not known here" ;; esac
start_task 'exec perl -e '\''$call = shift; $| = 1; $pid = fork // die;
	if (!$pid) { syscall($call, 0, 0, 0, 0); exec "/bin/true" }
	waitpid $pid, 0; syscall($call, 7, $pid, 1, 0) == 0 or die "$!"; waitpid $pid, 0; exit $? >> 8'\'" $call" \
	--security-opt=seccomp=unconfined
ended
worked "a child was traced to its end"
