/*
 * reused_descriptor NUMBER FILE
 *
 * Closes the descriptor NUMBER, opens FILE, which gets that number, and writes HEADER to it. Registers, and ends.
 */
#include "run_together.h"

#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char memory[4096];
	int number = argc > 2 ? atoi(argv[1]) : -1;
	struct ibv_mr *mr;

	close(number);
	if (open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0644) != number || write(number, "HEADER", 6) != 6)
		_exit(2);
	mr = ibv_reg_mr(open_pd(linked_verbs(), 0), memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
	return !mr || ibv_dereg_mr(mr);
}
