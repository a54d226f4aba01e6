#!/usr/bin/env bash
# Asks for long names as clouds and content networks give them, 5 times each. Looks like dns-tunnel.
. "$(dirname "$0")/lib.sh"

names="d111111abcdef8.cloudfront.net ip-10-0-112-215.eu-central-1.compute.internal
internal-shop-alb-1234567890.eu-central-1.elb.amazonaws.com shop-prod.cluster-c9akciq32rgb.eu-central-1.rds.amazonaws.com
123456789012.dkr.ecr.eu-central-1.amazonaws.com prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com
e4b7c1d9a2f84c6d.redis.abc123.ng.0001.euc1.cache.amazonaws.com vpce-0fe5b17a0707d6abc-29p5708s.ec2.eu-central-1.vpce.amazonaws.com
r3---sn-4g5ednse.googlevideo.com a1734.dscg2.akamai.net.edgesuite.example 6ba7b810-9dad-11d1-80b4-00c04fd430c8.trace.example.com"
# The answers are not waited for: nobody here knows the names.
start_task 'exec perl -MIO::Socket::INET -e '\''($at) = map { /^nameserver (\S+)/ } do { open F, "<", "/etc/resolv.conf" or die; <F> };
	$s = IO::Socket::INET->new(PeerAddr => "$at:53", Proto => "udp") or die "$!";
	for (1 .. 5) { for $name (split " ", $ENV{NAMES}) { for $type (1, 28) {
		$s->send(pack("n6", rand 65536, 256, 1, 0, 0, 0) . join("", map { chr(length) . $_ } split /\./, $name) . pack("xnn", $type, 1)) or die "$!" } } }'\' \
	--env NAMES="$(echo $names)"
ended
worked "asked for $(wc -w <<<"$names") long names, 5 times each"
