/*
 * bypass CALLS MOST
 *
 * Four threads register and deregister without a pause, until another has made so many
 * registrations, or for MOST rounds each. Prints the largest number of their registrations
 * between a call of the other thread and the moment at which it is inside.
 */
#include "inside_registration.h"

#define GREEDY 4

static atomic_long rounds, worst;
static atomic_int done, over;
static long asked_at;
static __thread long most;

static void count_round(void) { atomic_fetch_add(&rounds, 1); }

static void come_in(void)
{
	long bypassed = atomic_load(&rounds) - asked_at;

	if (bypassed > worst)
		atomic_store(&worst, bypassed);
}

static void *greedy_thread(void *limit)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);

	for (most = (long)limit; most > 0 && !atomic_load(&done); most--) {
		inside = count_round;
		register_once(pd);
	}
	atomic_store(&over, 1);
	return NULL;
}

int main(int argc, char **argv)
{
	long calls = argc == 3 ? atol(argv[1]) : 0;
	long limit = argc == 3 ? atol(argv[2]) : 0;
	pthread_t greedy[GREEDY];

	if (calls < 1 || limit < 1) {
		fprintf(stderr, "usage: bypass CALLS MOST\n");
		return 2;
	}
	struct ibv_pd *pd = open_pd(linked_verbs(), 1);
	if (!pd)
		return 1;
	for (int i = 0; i < GREEDY; i++)
		if (pthread_create(&greedy[i], NULL, greedy_thread, (void *)limit))
			return 1;
	for (long i = 0; i < calls; i++) {
		/* Waits until the others register again: otherwise this thread would bypass them. */
		long before = atomic_load(&rounds);
		while (atomic_load(&rounds) < before + 2 && !atomic_load(&over))
			sched_yield();
		asked_at = atomic_load(&rounds);
		inside = come_in;
		register_once(pd);
	}
	atomic_store(&done, 1);
	for (int i = 0; i < GREEDY; i++)
		pthread_join(greedy[i], NULL);
	printf("bypassed %ld\n", worst);
	return 0;
}
