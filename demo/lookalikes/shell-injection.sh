#!/usr/bin/env bash
# Asks for gift labels with texts as people write them. Looks like shell-injection.
. "$(dirname "$0")/lib.sh"

for text in "for you" "Anna and Tom" "no. 5, 2nd floor" "50% off" "mum & dad"; do
	evil get "http://storefront:8080/label?text=$(urlencode "$text")" >/dev/null || stopped "no label for $text"
done
worked "five labels were made"
