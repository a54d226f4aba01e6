#include <stdio.h>
#include "greeting.h"

int main(int argc, char **argv)
{
	printf("%s\n", greeting(argc > 1 ? argv[1] : NULL));
	return 0;
}
