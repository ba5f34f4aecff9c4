/*
 * A libmlx5.so.1 for programs that are linked to it and find no device of it: the real one needs the real libibverbs. It has the
 * functions that Mooncake's engine imports; each fails.
 */
#include <errno.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default"), used))
#define FAILS(name)                                                                                                    \
	EXPORT int name(void) { return errno = EOPNOTSUPP; }
#define MAKES_NOTHING(name)                                                                                            \
	EXPORT void *name(void)                                                                                        \
	{                                                                                                              \
		errno = EOPNOTSUPP;                                                                                    \
		return NULL;                                                                                           \
	}

FAILS(mlx5dv_init_obj)
FAILS(mlx5dv_devx_general_cmd)
FAILS(mlx5dv_devx_obj_modify)
FAILS(mlx5dv_devx_obj_destroy)
FAILS(mlx5dv_devx_query_eqn)
FAILS(mlx5dv_devx_umem_dereg)
FAILS(mlx5dv_devx_free_uar)
MAKES_NOTHING(mlx5dv_devx_alloc_uar)
MAKES_NOTHING(mlx5dv_devx_obj_create)
MAKES_NOTHING(mlx5dv_devx_umem_reg)
