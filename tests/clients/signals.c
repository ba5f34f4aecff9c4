/*
 * signals verbs|section|ioctl THREADS CALLS
 *     THREADS threads make CALLS registrations and deregistrations each: by the verbs, within
 *     a section of mrlock_lock() or without, or by uverbs requests to /dev/null. A timer
 *     interrupts each call at some instruction, and the handler makes the same call.
 * signals step
 *     After each instruction of the library in turn, as mrlock_lock(), mrlock_unlock()
 *     and ibv_reg_mr() run through it, a handler takes the lock, registers, unlocks, and
 *     registers again. Another thread must wait until they are done, and must then come in.
 * signals waiter
 *     A waiting thread gets a thousand signals, with a handler that does nothing; then one
 *     signal with a handler that registers.
 */
#define _GNU_SOURCE
#define MRLOCK_WEAK
#include "each_instruction.h"
#include "inside_registration.h"

#include <dlfcn.h>
#include <mrlock.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <time.h>

/*
 * A handler may interrupt an allocation, and the fake libibverbs allocates. This malloc()
 * makes one atomic addition, and free() does nothing.
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
static bool by_ioctl, in_section;
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
		if (in_section)
			mrlock_lock();
		register_once(me->pd);
		if (in_section && mrlock_unlock())
			_exit(3);
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
		/* Covers the duration of a call, including the wait for the other threads. */
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

static struct ibv_pd *handlers_pd;

static void lock_and_register(void)
{
	int saved = errno;
	void (*of_the_interrupted)(void) = inside;

	inside = NULL;
	if (mrlock_lock())
		_exit(3);
	register_once(handlers_pd);
	if (mrlock_unlock())
		_exit(3);
	register_once(handlers_pd);
	inside = of_the_interrupted;
	errno = saved;
}

static struct caller other;
static sem_t ask;
static long asked, number;
static atomic_long came, went;

static void *register_when_asked(void *argument)
{
	struct caller *me = argument;

	atomic_store(&me->id, own_id());
	for (;;) {
		while (sem_wait(&ask))
			;
		came++;
		register_once(me->pd);
		went++;
	}
	return NULL;
}

/* This thread is inside. No thread waits before the handler has acted: otherwise the handler would queue behind it. */
static void the_other_has_to_wait(void)
{
	if (!interrupted)
		return;
	asked++;
	sem_post(&ask);
	while (came != asked)
		sched_yield();
	until_asleep(&other.id);
	if (went == asked) {
		fprintf(stderr, "signals: it came in, after instruction %ld\n", number);
		_exit(1);
	}
}

static void the_other_comes_in(void)
{
	asked++;
	sem_post(&ask);
	while (went != asked)
		sched_yield();
	if (path->length && mrlock_unlock() != EPERM)
		_exit(3);
}

static void find_code(void)
{
	char line[4096];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof line, maps))
		if (strstr(line, "libmrlock") && strstr(line, " r-xp "))
			sscanf(line, "%lx-%lx", &first_instruction, &last_instruction);
	if (maps)
		fclose(maps);
}

static void section(struct ibv_pd *pd)
{
	(void)pd;
	begin_steps();
	int refused = mrlock_lock();
	the_other_has_to_wait();
	refused |= mrlock_unlock();
	end_steps();
	the_other_comes_in();
	if (refused)
		_exit(1);
}

static void registration(struct ibv_pd *pd)
{
	inside = the_other_has_to_wait;
	begin_steps();
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
	end_steps();
	the_other_comes_in();
	if (!mr || ibv_dereg_mr(mr))
		_exit(1);
}

static void step_through(const char *name, void (*what)(struct ibv_pd *), struct ibv_pd *pd)
{
	long missed = 0;

	what(pd); /* the library looks functions up at the first call */
	record();
	what(pd);
	for (number = 0; number < path->length; number++) {
		give_up_in_time(); /* since the last instruction */
		interrupt_before(number, false, lock_and_register);
		what(pd);
		if (was_interrupted())
			continue;
		interrupt_before(number, true, lock_and_register);
		what(pd);
		missed += !was_interrupted();
	}
	printf("%s %ld missed %ld\n", name, path->length - missed, missed);
}

static int step_through_both(void)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);

	other.pd = open_pd(linked_verbs(), 1);
	handlers_pd = open_pd(linked_verbs(), 2);
	find_code();
	prepare_steps();
	if (pthread_create(&other.thread, NULL, register_when_asked, &other))
		return 1;
	step_through("section", section, pd);
	step_through("call", registration, pd);
	return 0;
}

static struct caller holder, waiters[2];
static atomic_long handled;

static void do_nothing(int signal)
{
	(void)signal;
	atomic_fetch_add(&handled, 1);
}

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
	/* Each registers in its handler when its turn comes, and then makes its own registration. */
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
	print_served();
	return early || handled != 4;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int threads = argc > 2 ? atoi(argv[2]) : 0;

	calls_each = argc > 3 ? atol(argv[3]) : 0;
	by_ioctl = !strcmp(how, "ioctl");
	in_section = !strcmp(how, "section");
	if ((by_ioctl || in_section || !strcmp(how, "verbs")) && threads > 0 && threads <= 64 &&
	    calls_each > 0)
		return run_storm(threads);
	if (!strcmp(how, "step"))
		return step_through_both();
	if (!strcmp(how, "waiter"))
		return signal_a_waiter();
	fprintf(stderr, "usage: signals verbs|section|ioctl THREADS CALLS | step | waiter\n");
	return 2;
}
