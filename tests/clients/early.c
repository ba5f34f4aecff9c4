/*
 * Uses a memory region that a library's constructor registered before main
 * (early_dep.c): says whether that went well, and deregisters it.
 */
#include <stdio.h>

int early_outcome(void);

int main(void)
{
	static const char *const outcomes[] = {
		"registered before main, deregistered in main", "no protection domain",
		"not registered", "not deregistered", "not closed",
	};
	int outcome = early_outcome();
	printf("early: %s\n", outcomes[outcome]);
	return outcome;
}
