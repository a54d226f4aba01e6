#!/usr/bin/env bash
# Builds the peers of the scanner into a folder and asks them anew about the
# sample images of test/peers; what they say is checked in and compared by
# `make peers`. Compiling them takes half an hour on two cores, so CI doesn't.
#
#   test/setup/compare.sh [DIR]
#
# With SKIP_BUILD=1 the programs in DIR are taken as they are.
set -euo pipefail
cd "$(dirname "$0")/../peers"
dir=$(realpath -m "${1:-../../bin/peers}")
mkdir -p "$dir"
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -p=1" GOBIN="$dir"

if [ -z "${SKIP_BUILD:-}" ]; then
	nice go install -trimpath -ldflags '-s -w' github.com/google/osv-scanner/v2/cmd/osv-scanner@v2.5.1
	nice go install -trimpath -ldflags '-s -w' github.com/anchore/syft/cmd/syft@v1.57.0
	# Grype is built in the module that makes its database: one that it needs has
	# to be replaced there.
	(cd grypedb && nice go build -trimpath -ldflags '-s -w' -o "$dir/grype" github.com/anchore/grype/cmd/grype && nice go build -trimpath -o "$dir/grypedb" .)
fi

db=$(mktemp -d)
trap 'rm -rf "$db"' EXIT
"$dir/grypedb" -advisories testdata/advisories/osv -out "$db"
go run ./record -peers "$dir" -grype-db "$db"
