#!/usr/bin/env bash
# Asks each neighbour at its own port, ten times, as a load balancer and a monitor do. Looks like scan.
. "$(dirname "$0")/lib.sh"

start_task 'exec perl -MIO::Socket::INET -e '\''for (1 .. 10) { for $at (qw(store:5432 storefront:8080 api:8081 worker:8082 evil:80)) {
	$s = IO::Socket::INET->new(PeerAddr => $at, Timeout => 2); close $s if $s } select undef, undef, undef, 0.2 }'\'''
ended
worked "asked 5 neighbours, 10 times each"
