#!/usr/bin/env bash
# Finds the program, or gets it from where the user says and checks its SHA-256,
# and makes the folder for the reports.
set -euo pipefail

fail() {
    echo "::error title=Castellan::$1"
    exit 1
}

[ -n "$CASTELLAN_TARGETS" ] || fail "nothing to scan: give image, path or git"

# What an earlier run left on a runner of one's own is no report of this one.
mkdir -p -- "$CASTELLAN_REPORTS"
for kind in image iac git; do
    rm -f -- "$CASTELLAN_REPORTS/$kind".{json,html,xml,md,env,txt} "$CASTELLAN_REPORTS/sarif/$kind.sarif"
done
mkdir -p -- "$CASTELLAN_REPORTS/sarif"
echo "date=$(date -u +%F)" >>"$GITHUB_OUTPUT"

if [ -z "$CASTELLAN_FROM" ]; then
    command -v -- "$CASTELLAN" >/dev/null ||
        fail "there is no program $CASTELLAN on this runner: put it there, or say with the inputs from and sha256 where to get it"
    echo "castellan=$CASTELLAN" >>"$GITHUB_OUTPUT"
    exit 0
fi

folder=$RUNNER_TEMP/castellan-program
rm -rf -- "$folder"
mkdir -p -- "$folder"
got=$folder/got
case $CASTELLAN_FROM in
https://*)
    [ -n "$CASTELLAN_SHA256" ] || fail "the input from needs the input sha256: a file that is fetched is used only if it is the one that you know"
    curl --fail --silent --show-error --location --proto '=https' --retry 3 --max-time 600 --output "$got" -- "$CASTELLAN_FROM" ||
        fail "could not fetch the program"
    ;;
http://*)
    fail "the program is fetched by https:// only"
    ;;
*@sha256:*)
    container=$(docker create -- "$CASTELLAN_FROM" none) || fail "could not get the image that has the program"
    for file in /castellan /usr/local/bin/castellan /usr/bin/castellan; do
        docker cp --follow-link -- "$container:$file" "$got" 2>/dev/null && break
    done
    docker rm -- "$container" >/dev/null
    [ -f "$got" ] || fail "the image has no /castellan, /usr/local/bin/castellan or /usr/bin/castellan"
    ;;
*)
    [ -f "$CASTELLAN_FROM" ] || fail "the input from is neither https://, a file, nor an image pinned as NAME@sha256:…"
    [ -n "$CASTELLAN_SHA256" ] || fail "the input from needs the input sha256"
    cp -- "$CASTELLAN_FROM" "$got"
    ;;
esac
if [ -n "$CASTELLAN_SHA256" ]; then
    sum=$(sha256sum <"$got")
    [ "${sum%% *}" = "$CASTELLAN_SHA256" ] || fail "the program that was fetched has SHA-256 ${sum%% *}, not the one that the input sha256 says"
fi
if [ "$(head -c 2 "$got" | od -An -tx1 | tr -d ' ')" = 1f8b ]; then
    tar -xzf "$got" -C "$folder" --no-same-owner castellan || fail "the archive has no file castellan"
else
    mv -- "$got" "$folder/castellan"
fi
rm -f -- "$got"
chmod 0755 "$folder/castellan"
"$folder/castellan" version || fail "what was fetched does not run here: is it for this machine's architecture?"
echo "castellan=$folder/castellan" >>"$GITHUB_OUTPUT"
echo "$folder" >>"$GITHUB_PATH"
