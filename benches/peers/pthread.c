/*
 * A simple alternative to mrlock: a recursive mutex around the five calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct ibv_pd;
struct ibv_mr;

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

#define SERIALIZE(result, name, parameters, arguments)                                             \
	result name parameters                                                                     \
	{                                                                                          \
		static result(*next) parameters;                                                   \
		if (!next)                                                                         \
			next = dlsym(RTLD_NEXT, #name);                                            \
		pthread_mutex_lock(&lock);                                                         \
		result outcome = next arguments;                                                   \
		pthread_mutex_unlock(&lock);                                                       \
		return outcome;                                                                    \
	}

SERIALIZE(struct ibv_mr *, ibv_reg_mr, (struct ibv_pd *pd, void *addr, size_t length, int access),
	  (pd, addr, length, access))
SERIALIZE(struct ibv_mr *, ibv_reg_mr_iova,
	  (struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access),
	  (pd, addr, length, iova, access))
SERIALIZE(struct ibv_mr *, ibv_reg_mr_iova2,
	  (struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access),
	  (pd, addr, length, iova, access))
SERIALIZE(int, ibv_rereg_mr,
	  (struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length, int access),
	  (mr, flags, pd, addr, length, access))
SERIALIZE(int, ibv_dereg_mr, (struct ibv_mr *mr), (mr))
