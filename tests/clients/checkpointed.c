/*
 * checkpointed FILE [reused]
 *
 * Registers, forks, and registers again when the child has ended. In the child, a thread stays inside a registration and another one
 * waits, until SIGUSR1; FILE is there when it may come. Before the two go on, a child of fork, and one of a clone without fork
 * handlers, register. Then four threads register at the same time.
 *
 * reused: first closes standard output and standard error, and makes a pipe, which gets their numbers. At the end the pipe must be
 * empty.
 *
 * Not with a real libibverbs.
 */
#define _GNU_SOURCE
#include "inside_registration.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define CALLS 10

static struct caller holder, waiter;

static int register_often(struct ibv_pd *pd, int index)
{
	(void)index;
	for (int i = 0; i < CALLS; i++)
		register_once(pd);
	return 0;
}

/* In a child: registers and ends. In the parent: whether the child failed. */
static int failed(const char *what, pid_t child)
{
	int status = -1;

	if (!child) {
		give_up_in_time();
		register_once(open_pd(linked_verbs(), 3));
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		fprintf(stderr, "checkpointed: %s: status %#x\n", what, (unsigned int)status);
	return status != 0;
}

static void make_pipe_of_1_and_2(void)
{
	int ends[2];

	close(1);
	close(2);
	if (pipe(ends) || ends[0] != 1 || ends[1] != 2)
		_exit(3);
}

static int child(const char *file)
{
	int signal, problem;
	sigset_t go_on;

	give_up_in_time();
	sigemptyset(&go_on);
	sigaddset(&go_on, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &go_on, NULL);
	start_caller(&holder, 0, hold);
	sem_wait(&entered);
	start_queue(&waiter, 1);
	close(open(file, O_WRONLY | O_CREAT, 0644));
	sigwait(&go_on, &signal);

	problem = failed("fork", fork());
	problem |= failed("clone", (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(&waiter, 1);
	problem |= run_together(linked_verbs(), 4, register_often);
	print_served();
	return problem;
}

int main(int argc, char **argv)
{
	int is_reused = argc > 2, in_pipe = 0, status = 0;
	struct ibv_pd *pd = open_pd(linked_verbs(), 2);
	pid_t forked;

	if (argc < 2 || !pd)
		return 2;
	register_once(pd);
	if (is_reused)
		make_pipe_of_1_and_2();
	forked = fork();
	if (!forked)
		return child(argv[1]);
	if (waitpid(forked, &status, 0) != forked || status)
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 1;
	register_once(pd);
	if (is_reused && (ioctl(1, FIONREAD, &in_pipe) || in_pipe))
		return 4;
	return 0;
}
