# shellcheck shell=bash
# What every look-alike begins with: . "$(dirname "$0")/lib.sh"
#
# A look-alike is ordinary work that resembles the attack of the same name in
# demo/attacks, and harms nobody: castellan is to make no incident of it that is
# above low. It ends as an attack does: "worked: …" and 0, "stopped: …" and 1,
# "cannot: …" and 2.
. "$(dirname "${BASH_SOURCE[0]}")/../attacks/lib.sh"

# start_task SCRIPT ARGUMENT… starts a container whose own program is a shell script,
# with these arguments to docker run, and sets $task to its id.
start_task() {
	local script=$1
	shift
	legacy "$@" --entrypoint bash "$debian" -c "$script" || cannot "no container: $started"
	task=$started
}

# ended returns when the task's program has ended, and fails if that did not succeed.
ended() {
	local code
	code=$(docker wait "$task") && [ "$code" = 0 ] && return
	stopped "exit code $code: $(docker logs "$task" 2>&1 | tail -n 3)"
}
