/*
 * held: registers and deregisters twice; then one registration fails. Then a thread prints "inside" and stays inside a
 * registration until standard input ends. Not with a real libibverbs.
 */
#include "inside_registration.h"

static struct caller holder;

static void hold_until_end_of_input(void)
{
	char byte;

	puts("inside");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
}

int main(void)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);

	if (!pd)
		return 1;
	register_once(pd);
	register_once(pd);
	if (ibv_reg_mr(pd, NULL, 0, 1 << 19)) {
		fprintf(stderr, "held: access that no device has was granted\n");
		return 1;
	}
	start_caller(&holder, 0, hold_until_end_of_input);
	join_queue(&holder, 1);
	puts("done");
	return 0;
}
