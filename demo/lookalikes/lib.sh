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
	local name script=$1
	shift
	name=ecs-legacy-1-legacy-$(random_hex 10)
	later "docker rm -fv $name"
	task=$(docker run --detach --pull=never --name "$name" --network castellan-demo \
		--label castellan.demo=attack --label com.amazonaws.ecs.cluster=shop \
		--label com.amazonaws.ecs.task-arn="arn:aws:ecs:eu-central-1:123456789012:task/shop/$(random_hex 16)" \
		--label com.amazonaws.ecs.task-definition-family=legacy --label com.amazonaws.ecs.task-definition-version=1 \
		--label com.amazonaws.ecs.container-name=legacy --cpus=0.5 --memory=64m --memory-swap=64m --pids-limit=64 \
		"$@" --entrypoint bash "$debian" -c "$script" 2>&1) || cannot "no container: $task"
}

# ended returns when the task's program has ended, and fails if that did not succeed.
ended() {
	local code
	code=$(docker wait "$task") && [ "$code" = 0 ] && return
	stopped "exit code $code: $(docker logs "$task" 2>&1 | tail -n 3)"
}
