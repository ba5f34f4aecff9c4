/*
 * Three threads, one after the other, each of which ends inside its registration. Then one registers as usual.
 */
#include "inside_registration.h"

static void end_thread(void) { pthread_exit(NULL); }

int main(void)
{
	struct caller callers[3];
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);

	for (int i = 0; i < 3; i++) {
		start_caller(&callers[i], i, end_thread);
		join_queue(&callers[i], 1);
	}
	register_once(pd);
	return 0;
}
