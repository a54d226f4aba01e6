#!/usr/bin/env bash
# Installs what the tests of deploy/ci need: Groovy, in which Jenkins' shared
# libraries are written; YARA, which our reader of its rules is held against; and
# the compilers of AppArmor and SELinux, which take what castellan harden writes.
# Done already is done quickly.
set -euo pipefail

need=()
command -v groovy >/dev/null || need+=(groovy)
command -v yara >/dev/null || need+=(yara)
[ -x /usr/sbin/apparmor_parser ] || need+=(apparmor)
command -v secilc >/dev/null || need+=(secilc)
command -v java >/dev/null || need+=(default-jre-headless)
[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "missing: ${need[*]}; install them with: apt-get install ${need[*]}" >&2
	exit 1
fi
echo "installing Debian's packages ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
