#!/usr/bin/env bash
# Installs what `make demo` needs beside Docker's engine: the program that makes
# the small Debian on which the storefront stands.
set -euo pipefail

command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "missing: debootstrap; install it with: apt-get install debootstrap" >&2
	exit 1
fi
echo "installing Debian's package debootstrap"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
