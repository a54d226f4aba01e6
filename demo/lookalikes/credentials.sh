#!/usr/bin/env bash
# A task's start script takes its own secret and environment, and hands them to its program. Looks like credentials.
. "$(dirname "$0")/lib.sh"

secret=$(mktemp)
later "rm -f '$secret'"
echo pk_demo_of_a_look_alike >"$secret"
start_task 'PAYMENT_KEY=$(cat /run/secrets/own-key); export PAYMENT_KEY; tr "\0" "\n" </proc/self/environ >/dev/null; env >/dev/null; exec sh -c "test -n \"\$PAYMENT_KEY\""' \
	--volume "$secret:/run/secrets/own-key:ro" --env DATABASE_URL=postgres://store/shop
ended
worked "a task read its own key at its start"
