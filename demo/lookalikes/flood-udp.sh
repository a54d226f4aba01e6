#!/usr/bin/env bash
# Sends 2,000 measurements of a few bytes in 4 seconds, as clients of statsd do. Looks like flood-udp.
. "$(dirname "$0")/lib.sh"

start_task 'exec perl -MIO::Socket::INET -e '\''$s = IO::Socket::INET->new(PeerAddr => "evil:8125", Proto => "udp") or die "$!";
	for $i (1 .. 2000) { $s->send("shop.orders:$i|c"); select undef, undef, undef, 0.002 }'\'''
ended
worked "sent 2,000 measurements"
