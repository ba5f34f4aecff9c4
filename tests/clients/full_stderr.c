/*
 * full_stderr PROGRAM [ARGUMENT...]
 *
 * Runs PROGRAM with a pipe as standard error that has room for a few bytes. (Linux says that nothing can be written to it; gVisor
 * says that something can.) The other end is descriptor 3, from which nothing reads.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static const char block[4096];
	int ends[2], room;

	if (argc < 2 || pipe(ends) || (ends[0] != 3 && dup2(ends[0], 3) < 0) ||
	    (room = fcntl(ends[1], F_GETPIPE_SZ)) < (int)sizeof block)
		return 2;
	for (; room > (int)sizeof block; room -= (int)sizeof block)
		if (write(ends[1], block, sizeof block) != sizeof block)
			return 2;
	if (write(ends[1], block, sizeof block - 16) != sizeof block - 16 || dup2(ends[1], 2) < 0)
		return 2;
	close(ends[1]);
	execv(argv[1], argv + 1);
	return 2;
}
