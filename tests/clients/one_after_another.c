/*
 * one_after_another THREADS
 *
 * So many threads register and deregister once, each when the one before has ended.
 */
#include "inside_registration.h"

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 0;
	struct caller caller;

	for (int i = 0; i < threads; i++) {
		start_caller(&caller, i, NULL);
		pthread_join(caller.thread, NULL);
	}
	printf("%d threads\n", threads);
	return threads < 1;
}
