/*
 * cost ioctl|mr CALLS
 *
 * Prints what one call takes, in nanoseconds: the median of some blocks of so many
 * calls each. ioctl: one that has nothing to do with verbs, for a descriptor that
 * is closed. mr: ibv_reg_mr and ibv_dereg_mr, together. A second thread sleeps: in a process
 * with one thread, malloc and some locks take a cheaper path, but a process that needs the
 * lock has several threads.
 */
#include "../tests/clients/run_together.h"

#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BLOCKS 25

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void call_ioctl(struct ibv_pd *pd)
{
	int bytes;
	(void)pd;
	ioctl(-1, FIONREAD, &bytes);
}

static void call_mr(struct ibv_pd *pd)
{
	static char memory[4096];
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
	if (!mr || ibv_dereg_mr(mr))
		exit(1);
}

static void *sleep_on(void *argument)
{
	pause();
	return argument;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[1], "ioctl") && strcmp(argv[1], "mr"))) {
		fprintf(stderr, "usage: cost ioctl|mr CALLS\n");
		return 2;
	}
	void (*call)(struct ibv_pd *) = strcmp(argv[1], "mr") ? call_ioctl : call_mr;
	int calls = atoi(argv[2]);
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);
	double blocks[BLOCKS];
	pthread_t second;

	if (!pd || calls < 1 || pthread_create(&second, NULL, sleep_on, NULL))
		return 1;
	call(pd); /* does all first-time look-ups */
	for (int block = 0; block < BLOCKS; block++) {
		double start = seconds();
		for (int i = 0; i < calls; i++)
			call(pd);
		blocks[block] = (seconds() - start) * 1e9 / calls;
	}
	qsort(blocks, BLOCKS, sizeof blocks[0], compare);
	printf("%.3f\n", blocks[BLOCKS / 2]);
	return 0;
}
