/*
 * rdma_reg_msgs ADDRESS...
 *
 * Two threads for each address of an RDMA device. Each binds an identifier of librdmacm to it, and registers and deregisters
 * memory with the functions of rdma_verbs.h, in the protection domain of the identifier.
 */
#include <rdma/rdma_verbs.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_THREADS 16
#define ROUNDS 20
#define LENGTH ((size_t)1 << 20)

static pthread_barrier_t start;

static void *work(void *address)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct rdma_cm_id *id = NULL;
	char *memory = malloc(LENGTH);
	int failed = inet_pton(AF_INET, address, &to.sin_addr) != 1 || rdma_create_id(NULL, &id, NULL, RDMA_PS_TCP) ||
		     rdma_bind_addr(id, (struct sockaddr *)&to) || !id->pd;

	if (failed)
		fprintf(stderr, "rdma_reg_msgs: no protection domain at %s\n", (const char *)address);
	pthread_barrier_wait(&start);
	for (int round = 0; round < ROUNDS && !failed; round++) {
		struct ibv_mr *mr = round % 3 == 0   ? rdma_reg_msgs(id, memory, LENGTH)
				    : round % 3 == 1 ? rdma_reg_read(id, memory, LENGTH)
						     : rdma_reg_write(id, memory, LENGTH);
		failed = !mr || mr->pd != id->pd || mr->addr != memory || mr->length != LENGTH || rdma_dereg_mr(mr);
		if (failed)
			perror("rdma_reg_msgs");
	}
	if (id)
		failed |= rdma_destroy_id(id) != 0;
	free(memory);
	return failed ? address : NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[MOST_THREADS];
	int addresses = argc - 1, count = 2 * addresses, failed = 0;

	if (count < 2 || count > MOST_THREADS) {
		fprintf(stderr, "usage: rdma_reg_msgs ADDRESS...\n");
		return 2;
	}
	pthread_barrier_init(&start, NULL, (unsigned int)count);
	for (int i = 0; i < count; i++) {
		if (pthread_create(&threads[i], NULL, work, argv[1 + i % addresses])) {
			fprintf(stderr, "rdma_reg_msgs: cannot start thread %d\n", i);
			return 1;
		}
	}
	for (int i = 0; i < count; i++) {
		void *result;
		pthread_join(threads[i], &result);
		failed += result != NULL;
	}
	printf("threads that failed: %d\n", failed);
	return failed != 0;
}
