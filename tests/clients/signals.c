/*
 * signals verbs|ioctl THREADS CALLS
 *     So many threads register and deregister, so often each, by the verbs or by uverbs
 *     requests to /dev/null. A timer interrupts each call somewhere, and the handler does
 *     the same.
 * signals waiter
 *     A thousand signals for a thread that waits: its handler does nothing; and one whose
 *     handler registers.
 */
#define _GNU_SOURCE
#include "inside.h"

#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <time.h>

/*
 * A handler may interrupt an allocation, and the software libibverbs allocates: here,
 * by one atomic addition, and never gives anything back.
 */
static _Alignas(16) char heap[1 << 28];
static atomic_size_t used;

void *malloc(size_t size)
{
	size_t start = atomic_fetch_add(&used, (size + 31) & ~(size_t)15);
	if (start + size + 16 > sizeof heap)
		return NULL;
	memcpy(heap + start, &size, sizeof size);
	return heap + start + 16;
}
void *calloc(size_t count, size_t size) { return malloc(count * size); /* of a fresh array */ }
void free(void *pointer) { (void)pointer; }
void *realloc(void *pointer, size_t size)
{
	size_t old = 0;
	void *copy = malloc(size);
	if (pointer)
		memcpy(&old, (char *)pointer - 16, sizeof old);
	return copy && old ? memcpy(copy, pointer, old < size ? old : size) : copy;
}

static struct member_of_storm {
	struct ibv_pd *pd;
	pthread_t thread;
	long calls, interrupted;
	unsigned int seed;
} storm[64];

static __thread struct member_of_storm *me;
static bool by_ioctl;
static int null_file;
static long calls_each;
static pthread_barrier_t start;

static void call(void)
{
	if (by_ioctl) {
		struct ib_uverbs_ioctl_hdr request = {.length = sizeof request,
						      .object_id = UVERBS_OBJECT_MR,
						      .method_id = UVERBS_METHOD_MR_DESTROY};
		ioctl(null_file, RDMA_VERBS_IOCTL, &request);
	} else {
		register_once(me->pd);
	}
}

static void interrupt(int signal)
{
	int saved = errno;
	(void)signal;
	call();
	me->interrupted++;
	errno = saved;
}

static void *weather(void *argument)
{
	me = argument;
	struct sigevent to_me = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	to_me._sigev_un._tid = own_id();
	timer_t timer;
	if (timer_create(CLOCK_MONOTONIC, &to_me, &timer)) {
		perror("signals: timer_create");
		_exit(1);
	}
	pthread_barrier_wait(&start);
	for (long i = 0; i < calls_each; i++) {
		me->seed = me->seed * 1103515245 + 12345;
		/* The range of what a call takes, waiting for the others included. */
		long most = by_ioctl ? 8000 : 100000;
		struct itimerspec soon = {.it_value.tv_nsec = 1 + (me->seed >> 8) % most};
		timer_settime(timer, 0, &soon, NULL);
		call();
		me->calls++;
	}
	timer_delete(timer);
	return NULL;
}

static int run_storm(int threads)
{
	long calls = 0, interrupted = 0;

	null_file = open("/dev/null", O_RDWR | O_CLOEXEC);
	signal(SIGUSR1, interrupt);
	pthread_barrier_init(&start, NULL, (unsigned int)threads);
	for (int i = 0; i < threads; i++) {
		storm[i].seed = (unsigned int)(getpid() * 64 + i);
		storm[i].pd = open_pd(linked_verbs(), i);
		if (!storm[i].pd || pthread_create(&storm[i].thread, NULL, weather, &storm[i]))
			return 1;
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(storm[i].thread, NULL);
		calls += storm[i].calls;
		interrupted += storm[i].interrupted;
	}
	printf("calls %ld in-handlers %ld\n", calls, interrupted);
	return 0;
}

static struct caller holder, waiters[2];
static atomic_long handled;

static void do_nothing(int signal)
{
	(void)signal;
	atomic_fetch_add(&handled, 1);
}

static struct ibv_pd *handlers_pd;

static void register_in_handler(int signal)
{
	(void)signal;
	atomic_fetch_add(&handled, 1);
	register_once(handlers_pd);
	atomic_fetch_add(&handled, 1);
}

static int signal_a_waiter(void)
{
	handlers_pd = open_pd(linked_verbs(), 3);
	start_caller(&holder, 0, hold);
	sem_wait(&entered);
	start_queue(waiters, 2);
	signal(SIGUSR1, do_nothing);
	for (long i = 0; i < 1000; i++) {
		pthread_kill(waiters[i % 2].thread, SIGUSR1);
		while (handled == i)
			sched_yield();
		if (i % 100 == 0)
			until_asleep(&waiters[i % 2].id);
	}
	/* Each registers in its handler, in its turn, and then what it came for. */
	handled = 0;
	signal(SIGUSR1, register_in_handler);
	for (int i = 0; i < 2; i++) {
		pthread_kill(waiters[i].thread, SIGUSR1);
		while (handled == i)
			sched_yield();
		until_asleep(&waiters[i].id);
	}
	int early = served_count || handled != 2;
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(waiters, 2);
	say_who_was_served();
	return early || handled != 4;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int threads = argc > 2 ? atoi(argv[2]) : 0;

	calls_each = argc > 3 ? atol(argv[3]) : 0;
	by_ioctl = !strcmp(how, "ioctl");
	if ((by_ioctl || !strcmp(how, "verbs")) && threads > 0 && threads <= 64 && calls_each > 0)
		return run_storm(threads);
	if (!strcmp(how, "waiter"))
		return signal_a_waiter();
	fprintf(stderr, "usage: signals verbs|ioctl THREADS CALLS | waiter\n");
	return 2;
}
