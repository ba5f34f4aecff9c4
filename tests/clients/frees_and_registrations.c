/*
 * frees_and_registrations [-s | -f | -r | DEVICE]
 *
 * Two threads register memory, and two free GPU memory as libcuda does, on the given character
 * device (none: on descriptor -1).
 *
 * With -s, one thread frees while the other is between mrlock_lock() and mrlock_unlock() and
 * waits for the free there, like a thread that calls CUDA.
 * With -f, a signal handler interrupts the frees, and registers or takes the lock.
 * With -r, a signal handler interrupts the registrations, and registers.
 */
#define MRLOCK_WEAK
#include "run_together.h"

#include <fcntl.h>
#include <mrlock.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>

#define NV_ESC_RM_FREE 0xC0104629

static int device = -1;

static struct ibv_pd *handlers_pd;
static atomic_int handled, sections, refused;
static atomic_bool ended;

static void handler(int signal)
{
	static char memory[4096];

	(void)signal;
	struct ibv_mr *mr = ibv_reg_mr(handlers_pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
	if (!mr || ibv_dereg_mr(mr))
		abort();
	int error = mrlock_lock();
	if (!error && !mrlock_unlock())
		atomic_fetch_add(&sections, 1);
	else if (error == EDEADLK)
		atomic_fetch_add(&refused, 1);
	else
		abort();
	atomic_fetch_add(&handled, 1);
}

static void *register_or_free(void *frees)
{
	static char memory[4096];

	while (!atomic_load(&ended)) {
		if (frees)
			ioctl(-1, NV_ESC_RM_FREE, memory);
		else {
			struct ibv_mr *mr = ibv_reg_mr(handlers_pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
			if (!mr || ibv_dereg_mr(mr))
				abort();
		}
	}
	return NULL;
}

/* One thread frees, one registers; a hundred signals interrupt one of them. */
static int interrupt(bool frees)
{
	pthread_t threads[2];

	handlers_pd = open_pd(linked_verbs(), 0);
	signal(SIGUSR1, handler);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, register_or_free, i ? &ended : NULL);
	for (int i = 0; i < 100; i++) {
		pthread_kill(threads[frees], SIGUSR1);
		while (atomic_load(&handled) <= i)
			sched_yield();
	}
	atomic_store(&ended, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	printf("sections refused: %s\n", atomic_load(&refused) ? "some" : "none");
	return 0;
}

static int work(struct ibv_pd *pd, int index)
{
	static char memory[4][4096];

	for (int i = 0; i < 100; i++) {
		if (index % 2) {
			if (ioctl(device, NV_ESC_RM_FREE, memory))
				return 1;
			continue;
		}
		struct ibv_mr *mr = ibv_reg_mr(pd, memory[index], sizeof memory[index], IBV_ACCESS_LOCAL_WRITE);
		if (!mr || ibv_dereg_mr(mr))
			return 1;
	}
	return 0;
}

static void *free_once(void *unused)
{
	(void)unused;
	ioctl(device, NV_ESC_RM_FREE, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "-s")) {
		pthread_t thread;
		if (mrlock_lock() || pthread_create(&thread, NULL, free_once, NULL) || pthread_join(thread, NULL))
			return 1;
		return mrlock_unlock();
	}
	if (argc > 1 && argv[1][0] == '-')
		return interrupt(!strcmp(argv[1], "-f"));
	if (argc > 1 && (device = open(argv[1], O_RDWR)) < 0) {
		perror(argv[1]);
		return 1;
	}
	return run_together(linked_verbs(), 4, work);
}
