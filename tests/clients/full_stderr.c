/*
 * full_stderr PROGRAM [ARGUMENT...]
 *
 * Runs PROGRAM with a full pipe as standard error. The other end is descriptor 3, from which nothing reads.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static const char block[4096];
	int ends[2];

	if (argc < 2 || pipe(ends) || (ends[0] != 3 && dup2(ends[0], 3) < 0) ||
	    fcntl(ends[1], F_SETFL, O_NONBLOCK))
		return 2;
	while (write(ends[1], block, sizeof block) > 0)
		;
	/* A host's standard error waits. */
	if (fcntl(ends[1], F_SETFL, 0) || dup2(ends[1], 2) < 0)
		return 2;
	close(ends[1]);
	execv(argv[1], argv + 1);
	return 2;
}
