/*
 * What the clients with threads share: opening a device, and starting threads at the same time.
 */
#ifndef RUN_TOGETHER_H
#define RUN_TOGETHER_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a client reaches the verbs: linked functions, or those of a handle. */
struct opener {
	struct ibv_device **(*get_device_list)(int *);
	void (*free_device_list)(struct ibv_device **);
	struct ibv_context *(*open_device)(struct ibv_device *);
	int (*close_device)(struct ibv_context *);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *);
	int (*dealloc_pd)(struct ibv_pd *);
};

/* A protection domain on a context of its own, of device number `index` (modulo). */
static inline struct ibv_pd *open_pd(const struct opener *verbs, int index)
{
	int devices = 0;
	struct ibv_context *context = NULL;
	struct ibv_pd *pd = NULL;
	struct ibv_device **list = verbs->get_device_list(&devices);
	if (list && devices > 0)
		context = verbs->open_device(list[index % devices]);
	if (list)
		verbs->free_device_list(list);
	if (context)
		pd = verbs->alloc_pd(context);
	if (!pd)
		fprintf(stderr, "no protection domain: %s\n", devices ? strerror(errno) : "no device");
	return pd;
}

/* 0, or what is wrong. */
static inline const char *close_pd(const struct opener *verbs, struct ibv_pd *pd)
{
	struct ibv_context *context = pd->context;
	if (verbs->dealloc_pd(pd))
		return "ibv_dealloc_pd failed";
	return verbs->close_device(context) ? "ibv_close_device failed" : NULL;
}

/* NULL, or the first field of a region that is not what was asked for. */
static inline const char *wrong_field(const struct ibv_mr *mr, struct ibv_pd *pd, void *addr,
				      size_t length)
{
	return mr->context != pd->context ? "context"
	       : mr->pd != pd		  ? "pd"
	       : mr->addr != addr	  ? "addr"
	       : mr->length != length	  ? "length"
	       : mr->lkey == 0		  ? "lkey"
					  : NULL;
}

struct together {
	const struct opener *verbs;
	int (*work)(struct ibv_pd *pd, int index);
	pthread_barrier_t start;
};

struct member {
	struct together *all;
	int index;
	pthread_t thread;
};

static inline void *together_thread(void *argument)
{
	struct member *me = argument;
	struct ibv_pd *pd = open_pd(me->all->verbs, me->index);

	/* Also without a domain: the barrier waits for all threads. */
	pthread_barrier_wait(&me->all->start);
	if (!pd || me->all->work(pd, me->index))
		return me;
	const char *problem = close_pd(me->all->verbs, pd);
	if (problem)
		fprintf(stderr, "thread %d: %s\n", me->index, problem);
	return problem ? me : NULL;
}

/* Run work() in so many threads, each with a domain of its own: how many failed. */
static inline int run_together(const struct opener *verbs, int threads,
			       int (*work)(struct ibv_pd *pd, int index))
{
	struct together all = {.verbs = verbs, .work = work};
	struct member *members = calloc((size_t)threads, sizeof *members);
	int failed = 0;

	pthread_barrier_init(&all.start, NULL, (unsigned int)threads);
	for (int i = 0; i < threads; i++) {
		members[i].all = &all;
		members[i].index = i;
		if (pthread_create(&members[i].thread, NULL, together_thread, &members[i])) {
			fprintf(stderr, "cannot start thread %d\n", i);
			exit(1);
		}
	}
	for (int i = 0; i < threads; i++) {
		void *result;
		pthread_join(members[i].thread, &result);
		failed += result != NULL;
	}
	pthread_barrier_destroy(&all.start);
	free(members);
	return failed;
}

/* The verbs as the linker binds them. */
static inline const struct opener *linked_verbs(void)
{
	static const struct opener verbs = {
		ibv_get_device_list, ibv_free_device_list, ibv_open_device,
		ibv_close_device,    ibv_alloc_pd,	   ibv_dealloc_pd,
	};
	return &verbs;
}

#endif
