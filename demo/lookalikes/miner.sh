#!/usr/bin/env bash
# Packs files for some seconds with all the processor that it may have, and holds a connection with the store. Looks like miner.
. "$(dirname "$0")/lib.sh"

start_task 'exec perl -MIO::Socket::INET -e '\''$s = IO::Socket::INET->new("store:5432") or die "$!";
	system "tar -cf - /usr/lib /usr/share 2>/dev/null | head -c 40000000 | gzip -9 | sha256sum"; close $s; exit $? >> 8'\'''
ended
worked "packed 40 MB with a connection held"
