#!/usr/bin/env bash
# Searches for texts with signs that pages are written with. Looks like xss.
. "$(dirname "$0")/lib.sh"

for text in "mug < 10 euro" "size > L" '"blue" script'; do
	evil get "http://storefront:8080/search?q=$(urlencode "$text")" >/dev/null || stopped "no answer for $text"
done
worked "three searches were answered"
