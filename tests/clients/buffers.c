/*
 * buffers [threads]
 *
 * Registers what ibv_reg_mr_ex() and ibv_reg_buf_mr() accept, deregisters it, and prints how many of
 * these calls took the lock. With a number: so many threads register buffers of ibv_alloc_buf(), all
 * at once.
 */
#define MRLOCK_WEAK
#include "run_together.h"

#include <mrlock.h>
#include <unistd.h>

#define SIZE ((size_t)64 * 1024)
#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ)
#define DMA_BUF (IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_FD_OFFSET | IBV_REG_MR_MASK_IOVA)

static int work(struct ibv_pd *pd, int index)
{
	struct ibv_buf *buf;
	char *memory = ibv_alloc_buf(pd, SIZE, &buf);
	int failed = !memory;

	for (int i = 0; i < 20 && !failed; i++) {
		struct ibv_mr *mr = ibv_reg_buf_mr(pd, buf, memory, SIZE, ACCESS);
		failed = !mr || ibv_dereg_mr(mr);
	}
	if (failed)
		fprintf(stderr, "buffers: thread %d: %s\n", index, strerror(errno));
	if (memory)
		ibv_free_buf(buf);
	return failed;
}

static unsigned long long calls_with_lock(void)
{
	struct mrlock_snapshot all = {0};
	return mrlock_stats(MRLOCK_ALL, &all, sizeof all) ? 0 : all.calls;
}

static unsigned long long before;

static void show(const char *what, struct ibv_mr *mr)
{
	int calls = 1 + (mr && !ibv_dereg_mr(mr));

	printf("%s: %llu of %d\n", what, calls_with_lock() - before, calls);
	before = calls_with_lock();
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return run_together(linked_verbs(), atoi(argv[1]), work);

	struct ibv_pd *pd = open_pd(linked_verbs(), 0), *other = open_pd(linked_verbs(), 0);
	struct ibv_buf *buf;
	char *memory = pd && other ? ibv_alloc_buf(pd, SIZE, &buf) : NULL;
	if (!memory)
		return 1;
	struct ibv_mr_init_attr attributes = {.length = SIZE / 2, .access = ACCESS, .addr = memory, .buf = buf};

	show("a buffer", ibv_reg_buf_mr(pd, buf, memory, SIZE, ACCESS));
	show("the end of a buffer", ibv_reg_buf_mr(pd, buf, memory + SIZE - 1, 1, ACCESS));
	show("a buffer of another domain", ibv_reg_buf_mr(other, buf, memory, SIZE, ACCESS));
	attributes.comp_mask = IBV_REG_MR_MASK_ADDR | IBV_REG_MR_MASK_BUF;
	show("a buffer by its attribute", ibv_reg_mr_ex(pd, &attributes));
	/* Not asked for: the buffer is not to be looked at. */
	attributes.comp_mask = IBV_REG_MR_MASK_ADDR;
	show("an address", ibv_reg_mr_ex(pd, &attributes));
	attributes.comp_mask = DMA_BUF;
	show("a descriptor", ibv_reg_mr_ex(pd, &attributes));
	ibv_free_buf(buf);
	return 0;
}
