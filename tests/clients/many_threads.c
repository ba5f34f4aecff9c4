/*
 * many_threads THREADS CONTEXTS CALLS
 *
 * THREADS threads on CONTEXTS contexts make CALLS calls each, half of them registrations.
 * Prints how much memory is resident after a tenth of the calls and after all.
 */
#include "inside_registration.h"

static struct ibv_pd *pds[256];
static int contexts;
static long pairs;
static pthread_barrier_t phase;

static void *work(void *number)
{
	struct ibv_pd *pd = pds[(intptr_t)number % contexts];

	pthread_barrier_wait(&phase);
	for (long i = 0; i < pairs; i++) {
		if (i == pairs / 10) {
			pthread_barrier_wait(&phase); /* main() reads the resident memory here */
			pthread_barrier_wait(&phase);
		}
		register_once(pd);
	}
	pthread_barrier_wait(&phase);
	pthread_barrier_wait(&phase);
	return NULL;
}

static long resident_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *status = fopen("/proc/self/status", "re");

	while (status && fgets(line, sizeof line, status))
		sscanf(line, "VmRSS: %ld", &kib);
	if (status)
		fclose(status);
	return kib;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 0;

	contexts = argc > 2 ? atoi(argv[2]) : 0;
	pairs = argc > 3 ? atol(argv[3]) / 2 : 0;
	if (threads < 1 || contexts < 1 || contexts > 256 || pairs < 10) {
		fprintf(stderr, "usage: many_threads THREADS CONTEXTS CALLS\n");
		return 2;
	}
	for (int i = 0; i < contexts; i++) {
		pds[i] = open_pd(linked_verbs(), i);
		if (!pds[i])
			return 1;
	}
	pthread_t *all = calloc((size_t)threads, sizeof *all);
	pthread_barrier_init(&phase, NULL, (unsigned int)threads + 1);
	for (intptr_t i = 0; i < threads; i++) {
		if (pthread_create(&all[i], NULL, work, (void *)i)) {
			fprintf(stderr, "many_threads: cannot start thread %d\n", (int)i);
			return 1;
		}
	}
	pthread_barrier_wait(&phase);
	pthread_barrier_wait(&phase);
	long early = resident_kib();
	pthread_barrier_wait(&phase);
	pthread_barrier_wait(&phase);
	long late = resident_kib();
	pthread_barrier_wait(&phase);
	for (int i = 0; i < threads; i++)
		pthread_join(all[i], NULL);
	free(all);
	printf("calls %ld resident %ld %ld KiB\n", 2 * pairs * threads, early, late);
	return 0;
}
