#!/usr/bin/env bash
# Makes the Debian on which test/docker runs real services: a tar file in the
# cache of the demo, with PostgreSQL, nginx, Redis, Tomcat, Node, Python, cron and
# a compiler. Needs root and Debian's packages; done already is done quickly.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/castellan/demo
packages=postgresql-15,nginx-light,redis-server,tomcat10,nodejs,python3,cron,logrotate,gcc,libc6-dev,make,curl,procps,less
# Another list is another file.
target=$cache/services-$(sha256sum <<<"$packages" | cut -c1-12).tar
[ -f "$target" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "missing: $target; make it as root with: test/setup/services.sh" >&2
	exit 1
fi
"$(dirname "$0")/demo.sh"
mkdir -p "$cache"
rm -f "$cache"/services-*.tar
root=$(mktemp -d "$cache/services-XXXXXX")
# Where debootstrap ends early, the host's /proc and /sys are still mounted there.
trap 'umount -l "$root/proc" "$root/sys" 2>/dev/null; rm -rf --one-file-system "$root" "$target.part"' EXIT
echo "making a Debian with services to watch; this happens once and takes about two minutes"
# Packages start what they install, where nothing tells them not to.
mkdir -p "$root/usr/sbin"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
/usr/sbin/debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$cache/services.log" 2>&1 ||
	{ tail -n 20 "$cache/services.log" >&2; exit 1; }
rm -f "$root/usr/sbin/policy-rc.d"
tar --create --numeric-owner --file "$target.part" --directory "$root" \
	--exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
	--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' .
mv "$target.part" "$target"
