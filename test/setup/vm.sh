#!/bin/sh
# Installs what test/vm needs and fetches Debian's kernel for its virtual
# machines into the cache folder, once. Run as root on Debian 12:
#
#   test/setup/vm.sh [amd64|arm64]...     both when nothing is said
#
# Nothing of the fetched kernel is installed on this machine.
set -eu

cache=${CASTELLAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/castellan}/vm

die() {
	echo "vm.sh: $*" >&2
	exit 1
}

# install PROGRAM PACKAGE: installs the package unless the program is there.
install() {
	for dir in /usr/bin /usr/sbin /bin /sbin /usr/local/bin /usr/local/sbin; do
		[ -x "$dir/$1" ] && return 0
	done
	[ "$(id -u)" = 0 ] || die "no $1 and not root: run apt-get install $2 as root"
	echo "vm.sh: installing $2"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" >/dev/null 2>&1 ||
		{ apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -q --no-install-recommends "$2" >/dev/null; } ||
		die "cannot install $2: see apt-get install $2"
}

# apt_for ARCH COMMAND…: apt as if this machine had that architecture, with its
# own package lists when it has another, so that nothing here is reconfigured.
apt_for() {
	arch=$1 command=$2
	shift 2
	if [ "$arch" = "$(dpkg --print-architecture)" ]; then
		"$command" "$@"
		return
	fi
	mkdir -p "$cache/apt/$arch/lists/partial" "$cache/apt/$arch/cache/archives/partial"
	"$command" -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
		-o Dir::State::Lists="$cache/apt/$arch/lists" -o Dir::Cache="$cache/apt/$arch/cache" \
		-o Dir::State::Status=/dev/null -o APT::Sandbox::User=root "$@"
}

# kernel_package ARCH: the name of the kernel package that the metapackage
# depends on today; empty when the package lists don't know it.
kernel_package() {
	apt_for "$1" apt-cache depends --important "linux-image-cloud-$1" 2>/dev/null |
		sed -n 's/^ *Depends: *\(linux-image-[0-9][^ :]*\).*/\1/p' | head -n 1
}

# fetch ARCH: leaves vmlinuz, modules/ and release in the cache. The release
# file comes last: a folder with it is complete.
fetch() {
	arch=$1 dir=$cache/$1
	[ -f "$dir/release" ] && return 0
	package=$(kernel_package "$arch")
	if [ -z "$package" ]; then
		echo "vm.sh: updating the package lists for $arch"
		apt_for "$arch" apt-get update -q >/dev/null || die "cannot update the package lists for $arch"
		package=$(kernel_package "$arch")
	fi
	[ -n "$package" ] || die "apt knows no linux-image-cloud-$arch: are Debian's package sources configured?"
	release=${package#linux-image-}
	rm -rf "$dir"
	mkdir -p "$dir/unpacked"
	echo "vm.sh: fetching $package"
	# apt drops its rights to the user _apt, who may not write here: root is fine.
	(cd "$dir" && apt_for "$arch" apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null) ||
		die "cannot download $package"
	dpkg-deb --fsys-tarfile "$dir"/*.deb |
		tar -x -C "$dir/unpacked" "./boot/vmlinuz-$release" "./lib/modules/$release/kernel"
	find "$dir/unpacked" -name '*.ko.xz' -exec unxz {} +
	mv "$dir/unpacked/boot/vmlinuz-$release" "$dir/vmlinuz"
	mv "$dir/unpacked/lib/modules/$release" "$dir/modules"
	rm -rf "$dir/unpacked" "$dir"/*.deb "$cache/apt/$arch"
	echo "$release" >"$dir/release"
}

[ $# -gt 0 ] || set -- amd64 arm64
for want in "$@"; do
	case $want in
	amd64) install qemu-system-x86_64 qemu-system-x86 ;;
	arm64) install qemu-system-aarch64 qemu-system-arm ;;
	*) die "no architecture $want: amd64 or arm64" ;;
	esac
	install apparmor_parser apparmor
	fetch "$want"
	echo "vm.sh: kernel $(cat "$cache/$want/release") is in $cache/$want"
done
