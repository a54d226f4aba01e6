#!/usr/bin/env bash
# Looks from the storefront which ports its neighbours have open: 10 addresses, 7 ports. MITRE ATT&CK T1046, Network Service Discovery.
. "$(dirname "$0")/lib.sh"

# The first address is the gateway, which is the host: not a neighbour.
out=$(through_label "net=\$(hostname -i | cut -d. -f1-3)
for host in 2 3 4 5 6 7 8 9 10 11; do
	for port in 22 80 3306 5432 6379 8080 8081; do
		timeout 2 bash -c \"</dev/tcp/\$net.\$host/\$port\" 2>/dev/null && echo \"\$net.\$host:\$port\" &
	done
	wait
done")
grep -q ':5432$' <<<"$out" || stopped "the store was not found: $out"
worked "open: $(sort <<<"$out" | tr '\n' ' ')"
