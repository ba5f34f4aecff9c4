/*
 * forked_before: forks a child. Then the parent's main thread is inside a registration while the child's main thread, which has
 * the same thread variables, registers and deregisters. The child ends with _exit while the parent is still inside.
 */
#include "inside_registration.h"

#include <sys/wait.h>

static pid_t child;
static int to_child[2];

static void let_the_child_call(void)
{
	int status = -1;

	if (write(to_child[1], "", 1) != 1 || waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "forked_before: the child: status %#x\n", (unsigned)status);
		_exit(1);
	}
}

int main(void)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);
	char byte;

	if (!pd || pipe(to_child))
		return 1;
	register_once(pd);
	child = fork();
	if (child < 0)
		return 1;
	if (!child) {
		give_up_in_time();
		if (read(to_child[0], &byte, 1) != 1)
			_exit(1);
		register_once(pd);
		_exit(0);
	}
	inside = let_the_child_call;
	register_once(pd);
	return 0;
}
