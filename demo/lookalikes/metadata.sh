#!/usr/bin/env bash
# A program asks for the credentials of its own task at its start, as every AWS SDK does. Looks like metadata.
. "$(dirname "$0")/lib.sh"

# Where nothing answers at that address, it has asked all the same, as an SDK would.
start_task 'exec perl -MIO::Socket::INET -e '\''$s = IO::Socket::INET->new(PeerAddr => "169.254.170.2:80") or print("nothing answers\n"), exit 0;
	print $s "GET /v2/credentials/demo HTTP/1.0\r\nHost: 169.254.170.2\r\n\r\n"; print length(join "", <$s>), " bytes\n"'\'''
ended
worked "a task asked for its own credentials: $(docker logs "$task" 2>&1 | tail -n 1)"
