/*
 * ucx_contexts: eight UCX contexts in one process, a thread for each. Each thread maps memory, registers it with its
 * context, deregisters it and unmaps it, round after round; between the rounds it maps and unmaps other memory, which
 * UCX watches with its memory hooks if they are on. Prints what each thread did, in the order of the contexts.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucp/api/ucp.h>

enum { CONTEXTS = 8, ROUNDS = 6, SIZE = 1 << 20 };

struct result {
	int registered, deregistered;
	const char *failed; /* the first function that failed */
	const char *reason;
};

static pthread_barrier_t together;

static void fails(struct result *result, const char *function, ucs_status_t status)
{
	if (!result->failed) {
		result->failed = function;
		result->reason = ucs_status_string(status);
	}
}

static void *map(struct result *result)
{
	void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		fails(result, "mmap", UCS_ERR_NO_MEMORY);
		return NULL;
	}
	memset(memory, 1, SIZE);
	return memory;
}

static void one_round(ucp_context_h context, struct result *result)
{
	void *memory = map(result), *other;
	if (!memory)
		return;
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = memory,
		.length = SIZE,
	};
	ucp_mem_h handle;
	ucs_status_t status = ucp_mem_map(context, &params, &handle);
	if (status == UCS_OK) {
		result->registered++;
		status = ucp_mem_unmap(context, handle);
		if (status == UCS_OK)
			result->deregistered++;
		else
			fails(result, "ucp_mem_unmap", status);
	} else {
		fails(result, "ucp_mem_map", status);
	}
	munmap(memory, SIZE);
	if ((other = map(result)))
		munmap(other, SIZE);
}

static void *run(void *argument)
{
	struct result *result = argument;
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_RMA | UCP_FEATURE_TAG,
	};
	ucp_context_h context;
	ucs_status_t status = ucp_init(&params, NULL, &context);
	pthread_barrier_wait(&together);
	if (status != UCS_OK) {
		fails(result, "ucp_init", status);
		return NULL;
	}
	for (int round = 0; round < ROUNDS; round++)
		one_round(context, result);
	ucp_cleanup(context);
	return NULL;
}

int main(void)
{
	pthread_t threads[CONTEXTS];
	struct result results[CONTEXTS] = {0};
	int failed = 0;

	pthread_barrier_init(&together, NULL, CONTEXTS);
	for (int i = 0; i < CONTEXTS; i++)
		pthread_create(&threads[i], NULL, run, &results[i]);
	for (int i = 0; i < CONTEXTS; i++) {
		pthread_join(threads[i], NULL);
		printf("context %d: %d registered, %d deregistered", i, results[i].registered, results[i].deregistered);
		if (results[i].failed) {
			printf(", %s: %s", results[i].failed, results[i].reason);
			failed = 1;
		}
		printf("\n");
	}
	return failed;
}
