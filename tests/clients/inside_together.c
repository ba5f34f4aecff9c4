/*
 * inside_together THREADS [forks]
 *
 * So many threads, each on a device of its own (modulo), register once. None leaves its registration before all are inside, so
 * it hangs if calls are serialized. With `forks`, the first thread then forks, and the child ends when it has left.
 * Not with a real libibverbs.
 */
#include "inside_registration.h"

#include <sys/wait.h>

static pthread_barrier_t all_inside;
static int forks;
static pid_t child;

static void meet(void)
{
	pthread_barrier_wait(&all_inside);
	if (forks && own_number == 0)
		child = fork();
}

int main(int argc, char **argv)
{
	static struct caller callers[400];
	int threads = argc > 1 ? atoi(argv[1]) : 0, status = 0;

	if (threads < 1 || threads > 400) {
		fprintf(stderr, "usage: inside_together THREADS [forks]\n");
		return 2;
	}
	forks = argc > 2;
	pthread_barrier_init(&all_inside, NULL, (unsigned int)threads);
	for (int i = 0; i < threads; i++)
		start_caller(&callers[i], i, meet);
	join_queue(callers, threads);
	if (forks && (child < 0 || waitpid(child, &status, 0) != child))
		status = 1;
	puts("all were inside at once");
	return status != 0;
}
