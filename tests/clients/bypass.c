/*
 * bypass CALLS MOST
 *
 * One thread registers and deregisters without a pause, until another has made so many
 * registrations, or for MOST rounds. Prints how often the first was inside between the
 * moment at which the other asked and the moment at which it came in, at worst.
 */
#include "inside_registration.h"

static atomic_long rounds, worst;
static atomic_int done;
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
	return NULL;
}

int main(int argc, char **argv)
{
	long calls = argc == 3 ? atol(argv[1]) : 0;
	long limit = argc == 3 ? atol(argv[2]) : 0;
	pthread_t greedy;

	if (calls < 1 || limit < 1) {
		fprintf(stderr, "usage: bypass CALLS MOST\n");
		return 2;
	}
	struct ibv_pd *pd = open_pd(linked_verbs(), 1);
	if (!pd || pthread_create(&greedy, NULL, greedy_thread, (void *)limit))
		return 1;
	while (!atomic_load(&rounds))
		sched_yield();
	for (long i = 0; i < calls; i++) {
		asked_at = atomic_load(&rounds);
		inside = come_in;
		register_once(pd);
	}
	atomic_store(&done, 1);
	pthread_join(greedy, NULL);
	printf("bypassed %ld\n", worst);
	return 0;
}
