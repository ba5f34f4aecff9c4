/*
 * Starts echo by vfork and exec, and by posix_spawn.
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_for(pid_t child)
{
	int status = -1;
	waitpid(child, &status, 0);
	return status;
}

int main(void)
{
	pid_t child = vfork();
	if (!child) {
		execlp("echo", "echo", "vfork", NULL);
		_exit(127);
	}
	int vforked = wait_for(child);

	char *const arguments[] = {"echo", "posix_spawn", NULL};
	if (posix_spawnp(&child, "echo", NULL, NULL, arguments, environ))
		return 1;
	int spawned = wait_for(child);
	printf("status %d and %d\n", vforked, spawned);
	return 0;
}
