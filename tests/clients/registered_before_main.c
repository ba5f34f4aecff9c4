/*
 * Uses a memory region that a library's constructor registered before main
 * (register_in_constructor.c): says whether that went well, and deregisters it.
 */
#include <stdio.h>

int registration_outcome(void);

int main(void)
{
	static const char *const outcomes[] = {
		"registered before main, deregistered in main", "no protection domain",
		"not registered", "not deregistered", "not closed",
	};
	int outcome = registration_outcome();
	printf("registered_before_main: %s\n", outcomes[outcome]);
	return outcome;
}
