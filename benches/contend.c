/*
 * contend THREADS MILLISECONDS PAUSE_US CALLS
 *
 * So many threads register and deregister for so long, and each does nothing for so
 * many microseconds after so many calls. Prints, on one line: calls made, nanoseconds
 * inside them, nanoseconds between them, the longest and the mean call as its caller
 * sees it, processor time, and elapsed time. Needs call_times.so.
 */
#define _GNU_SOURCE
#include "../tests/clients/run_together.h"
#include "call_times.h"

#include <dlfcn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define MOST_THREADS 1024

/* What each thread tells the main thread. */
static struct contender {
	_Alignas(64) _Atomic uint64_t since; /* of the call that it is in */
	_Atomic uint64_t calls, total, longest;
	uint64_t since_pause; /* its calls */
} callers[MOST_THREADS];

static pthread_barrier_t start;
static useconds_t pause_us;
static uint64_t calls_at_a_time;

static void called(struct contender *me)
{
	uint64_t took = now_ns() - me->since;
	me->calls++;
	me->total += took;
	if (took > me->longest)
		me->longest = took;
	if (pause_us && ++me->since_pause == calls_at_a_time) {
		me->since_pause = 0;
		usleep(pause_us);
	}
	me->since = now_ns();
}

static void *work(void *argument)
{
	struct contender *me = argument;
	char *memory = calloc(1, 4096);
	struct ibv_pd *pd = open_pd(linked_verbs(), (int)(me - callers));

	if (!pd || !memory)
		_exit(1);
	prctl(PR_SET_TIMERSLACK, 1000);
	pthread_barrier_wait(&start);
	me->since = now_ns();
	for (;;) {
		struct ibv_mr *mr = ibv_reg_mr(pd, memory, 4096, IBV_ACCESS_LOCAL_WRITE);
		called(me);
		if (!mr || ibv_dereg_mr(mr))
			_exit(1);
		called(me);
	}
}

static uint64_t processor_time(void)
{
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000 +
	       (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

int main(int argc, char **argv)
{
	int threads = argc == 5 ? atoi(argv[1]) : 0;
	int milliseconds = argc == 5 ? atoi(argv[2]) : 0;
	struct call_times *inside = dlsym(RTLD_DEFAULT, "call_times");
	pthread_t thread;

	if (threads < 1 || threads > MOST_THREADS || milliseconds < 1 || !inside) {
		fprintf(stderr, "usage: LD_PRELOAD=[LOCK:]call_times.so "
				"contend THREADS MILLISECONDS PAUSE_US CALLS\n");
		return 2;
	}
	pause_us = (useconds_t)atoi(argv[3]);
	calls_at_a_time = (uint64_t)atoi(argv[4]);
	pthread_barrier_init(&start, NULL, (unsigned int)threads + 1);
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread, NULL, work, &callers[i]))
			return 1;
	pthread_barrier_wait(&start);

	/* Waits until all threads have started. */
	usleep(50000);
	/* A call that ends at this moment may count, and one that began before counts in full. */
	for (int i = 0; i < threads; i++)
		callers[i].calls = callers[i].total = callers[i].longest = 0;
	uint64_t calls = inside->calls, held = inside->held, lost = inside->lost;
	uint64_t processor = processor_time(), began = now_ns();
	usleep((useconds_t)milliseconds * 1000);
	calls = inside->calls - calls;
	held = inside->held - held;
	lost = inside->lost - lost;
	processor = processor_time() - processor;
	uint64_t now = now_ns();

	uint64_t all = 0, total = 0, longest = 0;
	for (int i = 0; i < threads; i++) {
		/* A call that is not over has taken that long at least. */
		uint64_t so_far = now > callers[i].since ? now - callers[i].since : 0;
		all += callers[i].calls;
		total += callers[i].total;
		if (callers[i].longest > longest)
			longest = callers[i].longest;
		if (so_far > longest)
			longest = so_far;
	}
	printf("%lu %lu %lu %lu %lu %lu %lu\n", calls, held, lost, longest, all ? total / all : 0,
	       processor, now - began);
	fflush(stdout);
	_exit(0); /* the other threads still run */
}
