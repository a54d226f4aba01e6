#!/usr/bin/env bash
# Searches for words that statements of SQL have, and for a name with an apostrophe. Looks like sql-injection.
. "$(dirname "$0")/lib.sh"

for text in "union jack mug" "select blend" "drop leaf table" "o’brien"; do
	evil get "http://storefront:8080/search?q=$(urlencode "$text")" >/dev/null || stopped "no answer for $text"
done
worked "four searches were answered"
