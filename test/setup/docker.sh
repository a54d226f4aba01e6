#!/bin/sh
# Installs Docker's engine and what the tests around it need, from Debian's
# packages. Run as root on Debian 12 or later; done already is done quickly.
#
#   test/setup/docker.sh       install; starts nothing: tests bring private engines
#   test/setup/docker.sh up    install, and start the system's engine if none runs
set -eu

log=/var/log/dockerd.log # where there is no systemd to keep a journal
wait=60                  # seconds until an engine that starts must answer

die() {
	echo "docker.sh: $*" >&2
	exit 1
}

# has PROGRAM: it is installed, also where root's PATH lacks the system folders.
has() {
	for dir in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
		[ -x "$dir/$1" ] && return 0
	done
	return 1
}

# missing: the packages that are not there yet.
missing() {
	has dockerd || echo docker.io
	has containerd || echo containerd
	has runc || echo runc
	has iptables || echo iptables # published ports
	has ip || echo iproute2       # bridges of private engines
	has busybox || echo busybox-static
	has strace || echo strace # to learn the system calls of a program
	# Debian 12 has the docker command in docker.io, later ones beside it.
	has docker || { apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli; } || true
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

install() {
	# shellcheck disable=SC2046 # one word a package
	set -- $(missing)
	[ $# -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "missing: $*; run as root: apt-get install $*"
	echo "docker.sh: installing $*"
	# An engine that starts by being installed is in nobody's way only if
	# somebody asked for it: `up` does.
	mask=/usr/sbin/policy-rc.d
	if [ ! -e "$mask" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$mask"
		chmod +x "$mask"
		trap 'rm -f "$mask"' EXIT
	fi
	apt_install "$@" 2>/dev/null || { apt-get update -q >/dev/null && apt_install "$@"; } ||
		die "cannot install $*: see apt-get install $*"
	[ -z "$(missing)" ] || die "installed, and still missing: $(missing)"
	rm -f "$mask"
	trap - EXIT
}

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# await PID: waits until the engine answers; PID, if given, is watched for an
# early end.
await() {
	n=0
	while ! answers; do
		[ -z "${1:-}" ] || kill -0 "$1" 2>/dev/null || return 1
		n=$((n + 1))
		[ "$n" -lt $((wait * 5)) ] || return 1
		sleep 0.2
	done
}

# start_detached: dockerd as a process of its own that outlives this script.
start_detached() {
	pid=$(cat /var/run/docker.pid 2>/dev/null || true)
	# A number that another program has by now would keep dockerd from starting.
	if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != dockerd ]; then
		rm -f /var/run/docker.pid
	fi
	PATH=$PATH:/usr/sbin:/sbin setsid dockerd >>"$log" 2>&1 </dev/null &
	daemon=$!
	await "$daemon" && return 0
	echo "docker.sh: the end of $log:" >&2
	tail -n 20 "$log" >&2
	kill -0 "$daemon" 2>/dev/null || die "dockerd ended before it answered; its log above says why"
	die "dockerd did not answer within $wait s; its log above says why"
}

up() {
	answers && return 0
	[ -z "${DOCKER_HOST:-}" ] ||
		die "DOCKER_HOST is $DOCKER_HOST and no engine answers there; start that one, or unset DOCKER_HOST to use this machine's"
	[ "$(id -u)" = 0 ] || die "no engine answers, and starting one needs root: sudo $0 up"
	if [ -d /run/systemd/system ]; then
		echo "docker.sh: starting the engine with systemd"
		# Asked to start, it may still come up slowly; not started is shown below.
		systemctl start docker || true
		await && return 0
		journalctl -u docker -n 20 --no-pager >&2 || true
		die "the engine did not answer within $wait s; its journal above says why"
	fi
	echo "docker.sh: starting dockerd, log in $log"
	start_detached
}

case ${1:-} in
"") install ;;
up)
	install
	up
	;;
*) die "usage: docker.sh [up]" ;;
esac
