/*
 * A preload library as one writes it in ten minutes: a recursive pthread mutex around
 * each function that registers or deregisters memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <pthread.h>

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

#define ALONE(result, name, parameters, arguments)                                             \
	result name parameters                                                                 \
	{                                                                                      \
		result (*next) parameters = dlsym(RTLD_NEXT, #name);                           \
		pthread_mutex_lock(&mutex);                                                    \
		result value = next arguments;                                                 \
		pthread_mutex_unlock(&mutex);                                                  \
		return value;                                                                  \
	}

ALONE(struct ibv_mr *, ibv_reg_mr, (struct ibv_pd *pd, void *addr, size_t length, int access),
      (pd, addr, length, access))
ALONE(struct ibv_mr *, ibv_reg_mr_iova,
      (struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access),
      (pd, addr, length, iova, access))
ALONE(struct ibv_mr *, ibv_reg_mr_iova2,
      (struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access),
      (pd, addr, length, iova, access))
ALONE(int, ibv_rereg_mr,
      (struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length, int access),
      (mr, flags, pd, addr, length, access))
ALONE(int, ibv_dereg_mr, (struct ibv_mr *mr), (mr))
