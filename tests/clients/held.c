/*
 * held [WAITERS [free|leave]]: registers and deregisters twice; then one registration fails. Then a thread
 * prints "inside" and stays inside a registration until standard input ends. Meanwhile WAITERS
 * threads wait for it; and with "free", the memory may be the GPU's, and one more thread frees GPU
 * memory. "inside" is printed when all of them wait. With "leave", the main thread then ends, without
 * waiting for the others. Not with a real libibverbs.
 */
#include "inside_registration.h"

#include <sys/ioctl.h>

#define NV_ESC_RM_FREE 0xC0104629

static struct caller holder, waiters[400];
static _Atomic pid_t freeing;

static void hold_until_end_of_input(void)
{
	char byte;

	hold();
	while (read(0, &byte, 1) > 0)
		;
}

static void *free_gpu_memory(void *nothing)
{
	atomic_store(&freeing, own_id());
	ioctl(-1, NV_ESC_RM_FREE, nothing); /* there is no driver: it fails */
	return nothing;
}

int main(int argc, char **argv)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);
	int count = argc > 1 ? atoi(argv[1]) : 0;
	int frees = argc > 2 && !strcmp(argv[2], "free");
	pthread_t freeing_thread;

	if (!pd || count > 400)
		return 1;
	register_once(pd);
	register_once(pd);
	if (ibv_reg_mr(pd, NULL, 0, 1 << 19)) {
		fprintf(stderr, "held: access that no device has was granted\n");
		return 1;
	}
	long page = sysconf(_SC_PAGESIZE);
	/* A page without access looks like GPU memory. */
	if (frees && mprotect(memory + sizeof memory - page, page, PROT_NONE))
		return 1;
	start_caller(&holder, 0, hold_until_end_of_input);
	sem_wait(&entered);
	start_queue(waiters, count);
	if (frees) {
		pthread_create(&freeing_thread, NULL, free_gpu_memory, NULL);
		until_asleep(&freeing);
	}
	puts("inside");
	fflush(stdout);
	sem_post(&released);
	if (argc > 2 && !frees)
		pthread_exit(NULL);
	join_queue(&holder, 1);
	join_queue(waiters, count);
	if (frees)
		pthread_join(freeing_thread, NULL);
	puts("done");
	return 0;
}
