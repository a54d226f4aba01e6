#include <stdio.h>
#include "greeting.h"

const char *greeting(const char *who)
{
	static char text[64];

	snprintf(text, sizeof(text), "hello, %s, %d", who ? who : "world", NUMBER);
	return text;
}
