/*
 * guard SECONDS CLOCK COMMAND...
 *
 * Runs the command in a process group of its own, and ends the group, with status 124, if the command hangs: if it still
 * runs after so many seconds on CLOCK, a file in which `boot` counts the seconds in which this machine had the
 * processors that it asked for. On a busy machine that clock is slow; a program that sleeps for ever does not stop it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(const char *clock)
{
	char text[32] = "";
	int file = open(clock, O_RDONLY | O_CLOEXEC);

	if (file < 0 || read(file, text, sizeof text - 1) < 0)
		perror(clock);
	close(file);
	return atof(text);
}

int main(int argc, char **argv)
{
	const struct timespec a_while = {.tv_sec = 2};
	double end;
	sigset_t child_ended;
	pid_t child;
	int status, hangs = 0;

	if (argc < 4)
		return 2;
	end = now(argv[2]) + atof(argv[1]);
	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ended, NULL);
	child = fork();
	if (!child) {
		setpgid(0, 0);
		sigprocmask(SIG_UNBLOCK, &child_ended, NULL);
		execvp(argv[3], argv + 3);
		perror(argv[3]);
		_exit(127);
	}
	if (child < 0)
		return 125;
	setpgid(child, child);
	while (waitpid(child, &status, WNOHANG) != child) {
		if (!hangs && now(argv[2]) > end) {
			hangs = 1;
			kill(-child, SIGKILL);
		}
		sigtimedwait(&child_ended, NULL, &a_while);
	}
	if (hangs)
		return 124;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
