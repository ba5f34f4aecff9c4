/*
 * gives_up_root [DIRECTORY]
 *
 * A daemon: registers as root, makes DIRECTORY its root, becomes another user, and registers again.
 */
#define _GNU_SOURCE
#include "run_together.h"

#include <grp.h>
#include <unistd.h>

#define NOBODY 65534

static int fails(struct ibv_pd *pd)
{
	static char memory[4096];
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);

	return !mr || ibv_dereg_mr(mr);
}

int main(int argc, char **argv)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);

	if (!pd || fails(pd))
		return 1;
	if (argc > 1 && (chroot(argv[1]) || chdir("/"))) {
		perror(argv[1]);
		return 1;
	}
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)) {
		perror("setuid");
		return 1;
	}
	return fails(pd);
}
