#!/usr/bin/env bash
# Two programs of one container speak over a socket of their own. Looks like escape-socket.
. "$(dirname "$0")/lib.sh"

start_task 'exec perl -MIO::Socket::UNIX -e '\''$p = "/run/app.sock"; $l = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $p, Listen => 5) or die;
	if (!fork) { $c = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $p) or die; print $c "hello\n"; exit 0 }
	$s = $l->accept; print <$s>; wait; exit $?'\'''
ended
worked "two programs spoke over a socket of their own"
