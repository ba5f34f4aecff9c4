/*
 * c_api HOW
 *
 * Checks what <mrlock.h> promises, with the library in the process or without. Prints the checks that fail.
 *
 *   absent     without it, every function does nothing
 *   errors     what the functions return, and that they leave errno alone
 *   size       a snapshot of any size
 *   excludes   a registration and a section wait until another thread's section ends
 *   sections   the same for two sections, with MRLOCK=off
 *   callback   sections that begin or end inside a registration
 *   handler    sections in a signal handler that interrupted the wait for one
 *   fork       a child keeps the section of the thread that forked, and no other
 *   ends       a thread ends inside a section
 *   counts     prints a snapshot of every entry point
 *   provider   half of the threads register within a section, in a way that no hook sees
 */
#define _GNU_SOURCE
#define MRLOCK_WEAK
#include "inside_registration.h"

#include <dlfcn.h>
#include <mrlock.h>
#include <signal.h>
#include <sys/wait.h>

static int failures;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "c_api: line %d: failed: %s\n", __LINE__, #condition);       \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

static struct ibv_pd *own_pd;

static struct mrlock_snapshot of(const char *entry_point)
{
	struct mrlock_snapshot stats = {.calls = 0};

	for (unsigned int i = 0; !mrlock_stats(i, &stats, sizeof stats); i++)
		if (!strcmp(stats.entry_point, entry_point))
			return stats;
	fprintf(stderr, "c_api: no entry point %s\n", entry_point);
	_exit(1);
}

static void absent(void)
{
	struct mrlock_snapshot stats;

	CHECK(mrlock_lock() == 0);
	CHECK(mrlock_unlock() == 0);
	CHECK(mrlock_stats(MRLOCK_ALL, &stats, sizeof stats) == ENOSYS);
	CHECK(mrlock_active() == 0);
	CHECK(!*mrlock_version());
}

static void *unlock_elsewhere(void *unused)
{
	CHECK(mrlock_unlock() == EPERM);
	return unused;
}

static void errors(void)
{
	struct mrlock_snapshot stats;
	pthread_t thread;

	errno = 4711;
	CHECK(mrlock_unlock() == EPERM);
	CHECK(mrlock_lock() == 0);
	CHECK(mrlock_lock() == 0);
	if (!pthread_create(&thread, NULL, unlock_elsewhere, NULL))
		pthread_join(thread, NULL);
	CHECK(mrlock_unlock() == 0);
	CHECK(mrlock_unlock() == 0);
	CHECK(mrlock_unlock() == EPERM);
	CHECK(mrlock_stats(MRLOCK_ALL, NULL, sizeof stats) == EINVAL);
	CHECK(mrlock_stats(MRLOCK_ALL, &stats, 0) == EINVAL);
	CHECK(mrlock_stats(1000, &stats, sizeof stats) == ENOENT);
	CHECK(mrlock_stats((unsigned int)-1, &stats, sizeof stats) == ENOENT);
	CHECK(mrlock_stats(MRLOCK_ALL, &stats, sizeof stats) == 0);
	CHECK(!strcmp(stats.entry_point, "all"));
	CHECK(!strcmp(mrlock_version(), MRLOCK_VERSION));
	CHECK(mrlock_active() == (MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL));
	CHECK(errno == 4711);
	CHECK(dlerror() == NULL);
}

static void any_size(void)
{
	struct {
		struct mrlock_snapshot known;
		char later[64];
		char beyond;
	} stats;
	struct mrlock_snapshot whole;

	register_once(own_pd);
	CHECK(mrlock_stats(MRLOCK_ALL, &whole, sizeof whole) == 0);
	CHECK(whole.calls == 2);
	for (size_t size = 1; size <= sizeof whole; size++) {
		memset(&stats, 0x55, sizeof stats);
		CHECK(mrlock_stats(MRLOCK_ALL, &stats.known, size) == 0);
		CHECK(!memcmp(&stats, &whole, size));
		CHECK(((char *)&stats)[size] == 0x55);
	}
	CHECK(mrlock_stats(MRLOCK_ALL, &stats.known, offsetof(__typeof__(stats), beyond)) == 0);
	CHECK(!memcmp(&stats.known, &whole, sizeof whole));
	for (size_t i = 0; i < sizeof stats.later; i++)
		CHECK(stats.later[i] == 0);
	CHECK(stats.beyond == 0x55);
}

/* A thread that begins a section, does something in it and ends it. */
static void *section_thread(void *argument)
{
	struct caller *me = argument;

	own_number = me->number;
	atomic_store(&me->id, own_id());
	errno = 4711;
	CHECK(mrlock_lock() == 0);
	CHECK(errno == 4711);
	me->inside();
	CHECK(mrlock_unlock() == 0);
	CHECK(mrlock_unlock() == EPERM);
	return me;
}

static void start_section(struct caller *caller, int number, void (*inside)(void))
{
	*caller = (struct caller){.number = number, .inside = inside};
	if (pthread_create(&caller->thread, NULL, section_thread, caller))
		_exit(1);
}

static struct caller holder, queue[4];

/* The lock is held: a new caller waits, and no earlier waiter has been served. */
static void check_that_others_wait(struct caller *one_more)
{
	start_caller(one_more, (int)(one_more - queue) + 1, note);
	until_asleep(&one_more->id);
	CHECK(served_count == 0);
}

static void excludes(void)
{
	mrlock_lock();
	check_that_others_wait(&queue[0]);
	start_section(&queue[1], 2, note);
	until_asleep(&queue[1].id);
	mrlock_lock();
	register_once(own_pd);
	mrlock_unlock();
	check_that_others_wait(&queue[2]);
	mrlock_unlock();
	join_queue(queue, 3);
	for (int i = 0; i < 3; i++)
		CHECK(served[i] == i + 1);

	/* And a section waits for a registration. */
	start_caller(&holder, 0, hold);
	sem_wait(&entered);
	served_count = 0;
	start_section(&queue[0], 1, note);
	until_asleep(&queue[0].id);
	CHECK(served_count == 0);
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(queue, 1);
	CHECK(served_count == 1);
}

static void sections(void)
{
	const char *mode = getenv("MRLOCK");
	unsigned int observed = mode && !strcmp(mode, "observe") ? 2 : 0;

	CHECK(mrlock_active() == 0);
	CHECK(mrlock_lock() == 0);
	start_section(&queue[0], 1, note);
	until_asleep(&queue[0].id);
	register_once(own_pd);
	CHECK(served_count == 0);
	CHECK(mrlock_unlock() == 0);
	join_queue(queue, 1);
	CHECK(of("all").calls == 2 + observed);
}

static void begin_and_end(void)
{
	CHECK(mrlock_unlock() == EPERM);
	check_that_others_wait(&queue[0]);
	CHECK(mrlock_lock() == 0);
	CHECK(mrlock_unlock() == 0);
	check_that_others_wait(&queue[1]);
}

static void begin(void) { CHECK(mrlock_lock() == 0); }

static void end(void)
{
	check_that_others_wait(&queue[0]);
	CHECK(mrlock_unlock() == 0);
	check_that_others_wait(&queue[1]);
}

static void serve_queue(void)
{
	join_queue(queue, 2);
	CHECK(served_count == 2);
	served_count = 0;
}

static void callback(void)
{
	inside = begin_and_end;
	register_once(own_pd);
	serve_queue();

	inside = begin;
	register_once(own_pd);
	check_that_others_wait(&queue[0]);
	register_once(own_pd);
	check_that_others_wait(&queue[1]);
	CHECK(mrlock_unlock() == 0);
	serve_queue();

	CHECK(mrlock_lock() == 0);
	inside = end;
	register_once(own_pd);
	serve_queue();
	CHECK(mrlock_unlock() == EPERM);
}

static atomic_int handled;

static void in_handler(int signal)
{
	int saved = errno;

	(void)signal;
	CHECK(mrlock_unlock() == EPERM); /* the interrupted section has not begun */
	atomic_fetch_add(&handled, 1);
	CHECK(mrlock_lock() == 0);
	register_once(own_pd);
	CHECK(mrlock_unlock() == 0);
	atomic_fetch_add(&handled, 1);
	errno = saved;
}

static void handled_by_now(void)
{
	CHECK(handled == 2);
	check_that_others_wait(&queue[1]);
}

static void handler(void)
{
	start_caller(&holder, 0, hold);
	sem_wait(&entered);
	start_section(&queue[0], 1, handled_by_now);
	until_asleep(&queue[0].id);
	signal(SIGUSR1, in_handler);
	pthread_kill(queue[0].thread, SIGUSR1);
	while (!handled)
		sched_yield();
	until_asleep(&queue[0].id);
	CHECK(handled == 1);
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(queue, 2);
	CHECK(served_count == 1);
}

static void check_child(pid_t child)
{
	int status = -1;

	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
}

static void forks(void)
{
	CHECK(of("all").calls == 0); /* times are measured from now on */
	mrlock_lock();
	pid_t child = fork();
	if (!child) {
		give_up_in_time();
		CHECK(of("all").calls == 0);
		register_once(own_pd);
		check_that_others_wait(&queue[0]);
		CHECK(mrlock_unlock() == 0);
		join_queue(queue, 1);
		CHECK(mrlock_unlock() == EPERM);
		CHECK(of("mrlock_lock").inside_ns == 0); /* the open call is the parent's */
		exit(failures);
	}
	check_that_others_wait(&queue[0]);
	check_child(child);
	mrlock_unlock();
	join_queue(queue, 1);

	start_section(&holder, 0, hold);
	sem_wait(&entered);
	child = fork();
	if (!child) {
		give_up_in_time();
		CHECK(mrlock_unlock() == EPERM);
		CHECK(mrlock_lock() == 0);
		CHECK(mrlock_unlock() == 0);
		exit(failures);
	}
	check_child(child);
	sem_post(&released);
	join_queue(&holder, 1);
}

static void leave_thread(void)
{
	hold();
	pthread_exit(NULL);
}

static void ends(void)
{
	start_section(&holder, 0, leave_thread);
	sem_wait(&entered);
	printf("holder %d\n", (int)holder.id);
	start_queue(queue, 3);
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(queue, 3);
	print_served();
}

static void counts(void)
{
	struct mrlock_snapshot stats;

	register_once(own_pd);
	if (!getenv("MRLOCK_REPORT"))
		CHECK(of("ibv_reg_mr").inside_ns == 0); /* no times were measured before this request */
	else
		CHECK(of("ibv_reg_mr").inside_ns > 0);
	register_once(own_pd);
	CHECK(of("ibv_reg_mr").inside_ns > 0);

	CHECK(mrlock_lock() == 0);
	stats = of("ibv_reg_mr");
	mrlock_lock();
	register_once(own_pd);
	CHECK(ibv_reg_mr(own_pd, memory, 0, 1 << 19) == NULL);
	mrlock_unlock();
	CHECK(of("ibv_reg_mr").calls == stats.calls + 2);
	CHECK(of("ibv_reg_mr").failures == stats.failures + 1);
	CHECK(of("ibv_reg_mr").inside_ns == stats.inside_ns); /* the time is the section's */
	CHECK(of("mrlock_lock").calls == 1);
	CHECK(of("mrlock_lock").inside_ns == 0);
	start_queue(queue, 3);
	CHECK(mrlock_unlock() == 0);
	join_queue(queue, 3);
	CHECK(of("mrlock_lock").inside_ns > 0);
	CHECK(of("all").most_at_once == 4);

	struct mrlock_snapshot sum = {.calls = 0}, all = of("all");
	for (unsigned int i = 1; !mrlock_stats(i, &stats, sizeof stats); i++) {
		printf("%s %llu %llu %llu\n", stats.entry_point, (unsigned long long)stats.calls,
		       (unsigned long long)stats.failures, (unsigned long long)stats.waits);
		if (stats.longest_wait_ns > sum.longest_wait_ns)
			sum.longest_wait_ns = stats.longest_wait_ns;
		if (stats.longest_inside_ns > sum.longest_inside_ns)
			sum.longest_inside_ns = stats.longest_inside_ns;
		sum.calls += stats.calls;
		sum.failures += stats.failures;
		sum.waits += stats.waits;
		sum.wait_ns += stats.wait_ns;
		sum.inside_ns += stats.inside_ns;
	}
	CHECK(sum.calls == all.calls && sum.failures == all.failures && sum.waits == all.waits);
	CHECK(sum.wait_ns == all.wait_ns && sum.inside_ns == all.inside_ns);
	CHECK(sum.longest_wait_ns == all.longest_wait_ns && all.longest_wait_ns > 0);
	CHECK(sum.longest_inside_ns == all.longest_inside_ns && all.longest_inside_ns > 0);
}

static struct ibv_mr *(*hidden)(struct ibv_pd *, void *, size_t, uint64_t, unsigned int);

static int by_provider(struct ibv_pd *pd, int index)
{
	for (int i = 0; i < 100; i++) {
		if (index % 2) {
			register_once(pd);
			continue;
		}
		mrlock_lock();
		struct ibv_mr *mr = hidden(pd, memory, sizeof memory, (uintptr_t)memory, 0);
		mrlock_unlock();
		if (!mr || ibv_dereg_mr(mr))
			return 1;
	}
	return 0;
}

static void provider(void)
{
	void *handle = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_NOLOAD);

	*(void **)&hidden = handle ? dlsym(handle, "ibv_reg_mr_iova2") : NULL;
	CHECK(hidden != NULL);
	CHECK(!hidden || run_together(linked_verbs(), 8, by_provider) == 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} ways[] = {
		{"absent", absent},     {"errors", errors},     {"size", any_size},
		{"excludes", excludes}, {"sections", sections}, {"callback", callback},
		{"handler", handler},   {"fork", forks},	{"ends", ends},
		{"counts", counts},     {"provider", provider},
	};

	own_pd = open_pd(linked_verbs(), 3);
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
		if (argc == 2 && !strcmp(argv[1], ways[i].name)) {
			ways[i].run();
			return failures != 0;
		}
	fprintf(stderr, "usage: c_api HOW\n");
	return 2;
}
