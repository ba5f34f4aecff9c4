/*
 * Threads that make an ioctl, and a forked child that ends with a status of its own.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int in_pipe[4];

static void *count(void *number)
{
	int ends[2];

	if (pipe(ends) || write(ends[1], "hello", 5) != 5 || ioctl(ends[0], FIONREAD, number))
		_exit(1);
	return NULL;
}

int main(void)
{
	pthread_t threads[4];
	int status = -1;

	for (int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, count, &in_pipe[i]))
			return 1;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	printf("in the pipes: %d %d %d %d\n", in_pipe[0], in_pipe[1], in_pipe[2], in_pipe[3]);
	fflush(stdout);
	pid_t child = fork();
	if (!child)
		exit(5);
	waitpid(child, &status, 0);
	printf("the child's status: %d\n", WEXITSTATUS(status));
	fprintf(stderr, "an error\n");
	return 3;
}
