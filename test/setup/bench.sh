#!/usr/bin/env bash
# Installs what `make bench` needs: a web server and a load generator.
set -euo pipefail

need=()
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || need+=(nginx-light)
command -v wrk >/dev/null || need+=(wrk)
[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "missing: ${need[*]}; install them with: apt-get install ${need[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Only the programs are wanted, not a web server that starts with the machine.
mask=/usr/sbin/policy-rc.d
if [ ! -e "$mask" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$mask"
	chmod +x "$mask"
	trap 'rm -f "$mask"' EXIT
fi
apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
