/*
 * gpureg MODE ROUNDS
 *
 * Registers the GPU memory of rm.c by ibv_reg_mr from four threads, each with a context of its own (on the machine's devices
 * in turn), and frees it with the driver's request. It knows nothing of mrlock. Each round of
 *
 *   regreg     each thread registers and deregisters a block of its own and one that all share; nothing is freed
 *   ownfree    each thread allocates a block, registers it, frees it, and deregisters it: no other thread has the block
 *   regfree    three threads register one block while the fourth frees it; then they deregister
 *   deregfree  three threads have registered one block, and deregister it while the fourth frees it
 *
 * It prints how the calls ended. In regfree, a registration of freed memory fails with EFAULT, as on any unmapped address; with
 * another error if the memory was freed while it was being registered. Ends with 3 if anything else fails.
 */
#include "device.h"
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)
#define SIZE (16 * GPU_PAGE)
#define THREADS 4

struct block {
	uint32_t handle;
	char *address;
};

static enum { REGREG, OWNFREE, REGFREE, DEREGFREE, MODES } mode;
static const char *const names[MODES] = {"regreg", "ownfree", "regfree", "deregfree"};
static int driver, rounds;
static struct ibv_pd *pds[THREADS];
static char places[THREADS + 1][SIZE] __attribute__((aligned(GPU_PAGE))); /* one for each thread's block, and the shared one */
static struct block shared;
static pthread_barrier_t barrier;
static atomic_int registered, refused, refused_otherwise, deregistered, freed;
static long span; /* in a race, each call begins within so many microseconds */

static void fail(const char *what)
{
	perror(what);
	exit(3);
}

static struct block allocate(int place)
{
	struct allocation a = {.size = SIZE};

	if (ioctl(driver, ALLOCATE, &a))
		fail("allocate (ENOSPC: the quarantine is full)");
	if (mmap(places[place], SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, driver, a.handle * 4096L) == MAP_FAILED)
		fail("mmap");
	return (struct block){a.handle, places[place]};
}

static void free_block(struct block b)
{
	struct release r = {.object = b.handle};

	if (ioctl(driver, RM_FREE, &r) || r.status)
		fail("RM_FREE");
	freed++;
}

static struct ibv_mr *reg(int thread, struct block b)
{
	struct ibv_mr *mr = ibv_reg_mr(pds[thread], b.address, SIZE, ACCESS);

	if (mr)
		registered++;
	else if (errno == EFAULT)
		refused++;
	else
		refused_otherwise++;
	return mr;
}

static void dereg(struct ibv_mr *mr)
{
	if (!mr)
		return;
	errno = ibv_dereg_mr(mr);
	if (errno)
		fail("ibv_dereg_mr");
	deregistered++;
}

static void alone(int thread)
{
	struct block mine;

	if (mode == REGREG)
		mine = allocate(thread);
	for (int round = 0; round < rounds; round++) {
		if (mode == REGREG) {
			struct ibv_mr *a = reg(thread, mine), *b = reg(thread, shared);
			dereg(a);
			dereg(b);
		} else {
			mine = allocate(thread);
			struct ibv_mr *mr = reg(thread, mine);
			free_block(mine);
			dereg(mr);
		}
	}
}

/* Spreads the calls of a round, so that in some rounds they meet. */
static void wait_within_span(unsigned *seed)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000L * (rand_r(seed) % span)}, NULL);
}

static void against_a_free(int thread)
{
	unsigned seed = 77 + thread + rounds;

	for (int round = 0; round < rounds; round++) {
		struct ibv_mr *mr = NULL;

		if (thread == 0)
			shared = allocate(THREADS);
		pthread_barrier_wait(&barrier);
		if (thread && mode == DEREGFREE)
			mr = reg(thread, shared);
		pthread_barrier_wait(&barrier);
		if (thread == 0 || mode == DEREGFREE)
			wait_within_span(&seed);
		if (thread == 0)
			free_block(shared);
		else if (mode == REGFREE)
			mr = reg(thread, shared);
		else
			dereg(mr);
		pthread_barrier_wait(&barrier);
		if (mode == REGFREE)
			dereg(mr);
		pthread_barrier_wait(&barrier);
	}
}

static void *work(void *argument)
{
	int thread = (int)(intptr_t)argument;

	if (mode == REGREG || mode == OWNFREE)
		alone(thread);
	else
		against_a_free(thread);
	return NULL;
}

/* The span is three times what a registration and its deregistration take undisturbed: the quickest of five. */
static void measure_span(void)
{
	for (int i = 0; i < 5; i++) {
		struct timespec begin, end;
		struct block block = allocate(THREADS);

		clock_gettime(CLOCK_MONOTONIC, &begin);
		dereg(reg(0, block));
		clock_gettime(CLOCK_MONOTONIC, &end);
		free_block(block);
		long us = (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
		if (!i || 3 * us < span)
			span = 3 * us;
	}
	if (registered != 5)
		fail("a registration of GPU memory");
}

int main(int argc, char **argv)
{
	int n = 0;
	pthread_t threads[THREADS];

	while (argc == 3 && mode < MODES && strcmp(argv[1], names[mode]))
		mode++;
	if (argc != 3 || mode == MODES || (rounds = atoi(argv[2])) < 1) {
		fputs("usage: gpureg regreg|ownfree|regfree|deregfree ROUNDS\n", stderr);
		return 2;
	}
	driver = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	if (driver < 0)
		fail("/dev/nvidiactl");
	struct ibv_device **devices = ibv_get_device_list(&n);
	for (int i = 0; i < THREADS; i++) {
		struct ibv_context *context = n ? ibv_open_device(devices[i % n]) : NULL;
		pds[i] = context ? ibv_alloc_pd(context) : NULL;
		if (!pds[i])
			fail("an RDMA device");
	}
	measure_span();
	if (mode == REGREG)
		shared = allocate(THREADS);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (intptr_t i = 0; i < THREADS; i++)
		if ((errno = pthread_create(&threads[i], NULL, work, (void *)i)))
			fail("pthread_create");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("registered %d, refused %d, otherwise refused %d, deregistered %d, freed %d\n", registered, refused,
	       refused_otherwise, deregistered, freed);
	return 0;
}
