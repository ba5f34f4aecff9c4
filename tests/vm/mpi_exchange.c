/*
 * mpi_exchange: the ranks send each other blocks of 2 MiB, round after round, in memory that is new in each round.
 * Rank 0 prints how many blocks each rank received as they were sent.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROUNDS = 4, SIZE = 2 << 20 };

static unsigned char *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		MPI_Abort(MPI_COMM_WORLD, 1);
	}
	return memory;
}

static int is_filled(const unsigned char *block, unsigned char value)
{
	return block[0] == value && memcmp(block, block + 1, SIZE - 1) == 0;
}

int main(int argc, char **argv)
{
	int rank, ranks, whole = 0;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned char *sent = map((size_t)ranks * SIZE), *received = map((size_t)ranks * SIZE);
		for (int to = 0; to < ranks; to++)
			memset(sent + (size_t)to * SIZE, 1 + round * 16 + rank, SIZE);
		MPI_Alltoall(sent, SIZE, MPI_BYTE, received, SIZE, MPI_BYTE, MPI_COMM_WORLD);
		for (int from = 0; from < ranks; from++)
			whole += is_filled(received + (size_t)from * SIZE, 1 + round * 16 + from);
		munmap(sent, (size_t)ranks * SIZE);
		munmap(received, (size_t)ranks * SIZE);
	}
	int *all = calloc(ranks, sizeof *all);
	MPI_Gather(&whole, 1, MPI_INT, all, 1, MPI_INT, 0, MPI_COMM_WORLD);
	for (int i = 0; rank == 0 && i < ranks; i++)
		printf("rank %d: %d of %d blocks\n", i, all[i], ROUNDS * ranks);
	free(all);
	MPI_Finalize();
	return 0;
}
