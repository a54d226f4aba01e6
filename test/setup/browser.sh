#!/usr/bin/env bash
# Installs what test/browser needs: Chromium, and a font for what the console's
# own do not have. Done already is done quickly.
set -euo pipefail

need=()
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || need+=(chromium)
[ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || need+=(fonts-dejavu-core)
[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "missing: ${need[*]}; install them with: apt-get install ${need[*]}" >&2
	exit 1
fi
echo "installing Debian's packages ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
