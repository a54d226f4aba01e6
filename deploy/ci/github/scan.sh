#!/usr/bin/env bash
# One scan: writes all reports, shows annotations and a summary. What violates the
# policy does not end it, so that the other scans are made and the reports can be
# published; verdict.sh says what comes of it.
set -euo pipefail
. "$GITHUB_ACTION_PATH/environment.sh"

reports=$CASTELLAN_REPORTS
kind=$CASTELLAN_KIND
command=(scan)
if [ "$kind" != image ]; then
    command+=("$kind")
fi
options=(--fail-on "$CASTELLAN_FAIL_ON" --policy "$CASTELLAN_POLICY" --timeout "$CASTELLAN_TIMEOUT")
if [ -n "$CASTELLAN_CATEGORY" ]; then
    options+=(--category "$CASTELLAN_CATEGORY/$kind")
fi
if [ "$kind" = image ]; then
    options+=(--platform "$CASTELLAN_PLATFORM")
    if [ "$CASTELLAN_ONLY_FIXED" = true ]; then
        options+=(--only-fixed)
    fi
    while IFS= read -r word; do
        [ -z "$word" ] || options+=("$word")
    done <<<"$CASTELLAN_ARGS"
fi
if [ -n "${CASTELLAN_BASELINE:-}" ]; then
    options+=(--baseline "$CASTELLAN_BASELINE")
fi
if [ -n "${CASTELLAN_NEW_SINCE:-}" ]; then
    options+=(--new-since "$CASTELLAN_NEW_SINCE")
fi
targets=()
while IFS= read -r target; do
    [ -z "$target" ] || targets+=("$target")
done <<<"$CASTELLAN_TARGET"

# What a pull request brings is what its base branch does not have.
if [ "${CASTELLAN_ONLY_NEW:-}" = true ] && [ -n "${GITHUB_BASE_REF:-}" ] && [ -z "${CASTELLAN_NEW_SINCE:-}" ]; then
    git fetch --quiet --no-tags --depth=1 origin "+refs/heads/$GITHUB_BASE_REF:refs/castellan/base" || {
        echo "::error title=Castellan::only-new needs the base branch $GITHUB_BASE_REF, which could not be fetched: check the repository out with its credentials, or leave only-new out"
        exit 1
    }
    if [ "$kind" = git ]; then
        options+=(--since refs/castellan/base)
    else
        base=$RUNNER_TEMP/castellan-base
        rm -rf -- "$base"
        git worktree prune
        git worktree add --quiet --detach "$base" refs/castellan/base
        there=()
        for target in "${targets[@]}"; do # one that is new has nothing to be compared with
            [ ! -e "$base/$target" ] || there+=("$target")
        done
        if [ ${#there[@]} -gt 0 ]; then
            (cd "$base" && "$CASTELLAN" scan iac --timeout "$CASTELLAN_TIMEOUT" -o json="$RUNNER_TEMP/castellan-base.json" -- "${there[@]}")
            options+=(--new-since "$RUNNER_TEMP/castellan-base.json")
        fi
        git worktree remove --force "$base"
    fi
fi

# The report shows texts of images and documents, which are somebody else's: until
# the word that nobody can know, the runner takes none of them for a command.
word=castellan-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$word"
code=0
"$CASTELLAN" "${command[@]}" "${options[@]}" \
    -o table -o markdown="$reports/$kind.md" -o github="$reports/$kind.txt" -o env="$reports/$kind.env" \
    -o sarif-github="$reports/sarif/$kind.sarif" -o junit="$reports/$kind.xml" -o json="$reports/$kind.json" -o html="$reports/$kind.html" \
    -- "${targets[@]}" || code=$?
echo "::$word::"
if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
    echo "::error title=Castellan::it could not be found out: exit code $code, see the log"
    exit "$code"
fi
cat -- "$reports/$kind.txt"
cat -- "$reports/$kind.md" >>"$GITHUB_STEP_SUMMARY"
