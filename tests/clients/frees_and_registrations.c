/*
 * frees_and_registrations [-h | -s | -f | -r] [DEVICE]
 *
 * Two threads register GPU memory (its last page allows no access), and two free GPU memory as
 * libcuda does, on the given character device (none: on descriptor -1).
 *
 * With -h, the memory that is registered is the host's.
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
#include <sys/mman.h>
#include <unistd.h>

#define NV_ESC_RM_FREE 0xC0104629

#define LENGTH (1 << 20)

static int device = -1;
static bool is_host;

static struct ibv_pd *handlers_pd;
static void *handlers_memory;
static atomic_int handled, sections, refused;
static atomic_bool ended;

static void *new_memory(void)
{
	char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long page = sysconf(_SC_PAGESIZE);

	if (memory == MAP_FAILED || (!is_host && mprotect(memory + LENGTH - page, page, PROT_NONE)))
		abort();
	return memory;
}

/* A real kernel without nvidia-peermem cannot pin memory that allows no access. */
static bool registers(struct ibv_pd *pd, void *memory)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, LENGTH, IBV_ACCESS_LOCAL_WRITE);

	return mr ? !ibv_dereg_mr(mr) : !is_host && errno == EFAULT;
}

static void handler(int signal)
{
	(void)signal;
	if (!registers(handlers_pd, handlers_memory))
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
	void *memory = new_memory();

	while (!atomic_load(&ended)) {
		if (frees)
			ioctl(-1, NV_ESC_RM_FREE, memory);
		else {
			if (!registers(handlers_pd, memory))
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
	handlers_memory = new_memory();
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
	void *memory = new_memory();

	for (int i = 0; i < 100; i++) {
		if (index % 2 ? ioctl(device, NV_ESC_RM_FREE, memory) != 0 : !registers(pd, memory))
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
	if (argc > 1 && !strcmp(argv[1], "-h")) {
		is_host = true;
		argv++, argc--;
	}
	if (argc > 1 && argv[1][0] == '-')
		return interrupt(!strcmp(argv[1], "-f"));
	if (argc > 1 && (device = open(argv[1], O_RDWR)) < 0) {
		perror(argv[1]);
		return 1;
	}
	return run_together(linked_verbs(), 4, work);
}
