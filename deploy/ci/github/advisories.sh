#!/usr/bin/env bash
# Fetches advisories. Where that fails and there are some of an earlier day, they are
# used, and every report says how old they are.
set -euo pipefail
. "$GITHUB_ACTION_PATH/environment.sh"

mkdir -p -- "$CASTELLAN_DATA_DIR"
options=()
case $CASTELLAN_ADVISORIES in
publishers) ;;
https://* | http://*) options=(--mirror "$CASTELLAN_ADVISORIES") ;;
registry:* | oci:*) options=(--from "$CASTELLAN_ADVISORIES") ;;
*)
    echo "::error title=Castellan::the input advisories wants publishers, registry:REFERENCE or https://…"
    exit 1
    ;;
esac
if ! "$CASTELLAN" scan db update "${options[@]}"; then
    if [ ! -f "$CASTELLAN_DATA_DIR/advisories.db" ]; then
        echo "::error title=Castellan::advisories could not be fetched, and there are none of an earlier day"
        exit 1
    fi
    echo "::warning title=Castellan::advisories could not be fetched: those of an earlier day are used"
fi
