# shellcheck shell=bash
# Read by the others: what they give the program by its environment.

if [ -n "${REGISTRY_USER:-}${REGISTRY_PASSWORD:-}" ]; then
    export CASTELLAN_REGISTRY_HOST=${REGISTRY_HOST:-} CASTELLAN_REGISTRY_USER=${REGISTRY_USER:-} CASTELLAN_REGISTRY_PASSWORD=${REGISTRY_PASSWORD:-}
fi
if [ -n "${SECRET_SALT:-}" ]; then
    export CASTELLAN_SECRET_SALT=$SECRET_SALT
fi
# Fetched advisories are in a folder that the cache keeps; without, those of the
# runner are used.
if [ -n "${CASTELLAN_ADVISORIES:-}" ]; then
    export CASTELLAN_DATA_DIR=$RUNNER_TEMP/castellan-data
fi
