#!/usr/bin/env bash
# Asks for the storefront's page as a load balancer's check does, 40 times. Looks like flood-http.
. "$(dirname "$0")/lib.sh"

for ((i = 0; i < 40; i++)); do
	evil get http://storefront:8080/ >/dev/null || stopped "the page was not given"
done
worked "asked 40 times"
