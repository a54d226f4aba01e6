#!/usr/bin/env bash
# Makes 300 short connections with the store, as a client without a pool does. Looks like flood-syn.
. "$(dirname "$0")/lib.sh"

start_task 'exec perl -MIO::Socket::INET -e '\''for (1 .. 300) { $s = IO::Socket::INET->new("store:5432") or die "$!"; close $s }'\'''
ended
worked "made 300 connections one after the other"
