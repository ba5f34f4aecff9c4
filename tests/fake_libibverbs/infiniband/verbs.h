/*
 * The part of the verbs API that the fake libibverbs offers.
 *
 * For machines without RDMA headers. Layouts, values and macros have the ABI of
 * rdma-core 44, so a program built against this file runs on the real library,
 * and one built against the real header runs on the fake library. Buffers and
 * ibv_reg_mr_ex() are those of rdma-core 65.
 */
#ifndef INFINIBAND_VERBS_H
#define INFINIBAND_VERBS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	IBV_SYSFS_NAME_MAX = 64,
	IBV_SYSFS_PATH_MAX = 256,
};

enum ibv_node_type {
	IBV_NODE_UNKNOWN = -1,
	IBV_NODE_CA = 1,
};

enum ibv_transport_type {
	IBV_TRANSPORT_UNKNOWN = -1,
	IBV_TRANSPORT_IB = 0,
};

struct ibv_context;

struct _ibv_device_ops {
	void (*_dummy[2])(void);
};

struct ibv_device {
	struct _ibv_device_ops _ops;
	enum ibv_node_type node_type;
	enum ibv_transport_type transport_type;
	char name[IBV_SYSFS_NAME_MAX];
	char dev_name[IBV_SYSFS_NAME_MAX];
	char dev_path[IBV_SYSFS_PATH_MAX];
	char ibdev_path[IBV_SYSFS_PATH_MAX];
};

struct ibv_cq;
struct ibv_wc;

/* The driver's functions for the data path. Only one is used here; the others only fill ibv_context. */
struct ibv_context_ops {
	void (*_slots[11])(void);
	int (*poll_cq)(struct ibv_cq *cq, int num_entries, struct ibv_wc *wc);
	void (*_more_slots[20])(void);
};

struct ibv_context {
	struct ibv_device *device;
	struct ibv_context_ops ops;
	int cmd_fd;
	int async_fd;
	int num_comp_vectors;
	pthread_mutex_t mutex;
	void *abi_compat;
};

struct ibv_pd {
	struct ibv_context *context;
	uint32_t handle;
};

struct ibv_mr {
	struct ibv_context *context;
	struct ibv_pd *pd;
	void *addr;
	size_t length;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
};

/* Bits 20 to 29 are optional: a device that does not know one ignores it. */
#define IBV_ACCESS_OPTIONAL_RANGE 0x3ff00000u

enum ibv_access_flags {
	IBV_ACCESS_LOCAL_WRITE = 1 << 0,
	IBV_ACCESS_REMOTE_WRITE = 1 << 1,
	IBV_ACCESS_REMOTE_READ = 1 << 2,
	IBV_ACCESS_REMOTE_ATOMIC = 1 << 3,
	IBV_ACCESS_MW_BIND = 1 << 4,
	IBV_ACCESS_ZERO_BASED = 1 << 5,
	IBV_ACCESS_ON_DEMAND = 1 << 6,
	IBV_ACCESS_HUGETLB = 1 << 7,
	IBV_ACCESS_RELAXED_ORDERING = 1 << 20,
};

enum ibv_rereg_mr_flags {
	IBV_REREG_MR_CHANGE_TRANSLATION = 1 << 0,
	IBV_REREG_MR_CHANGE_PD = 1 << 1,
	IBV_REREG_MR_CHANGE_ACCESS = 1 << 2,
	IBV_REREG_MR_FLAGS_SUPPORTED = 7,
};

enum ibv_rereg_mr_err_code {
	IBV_REREG_MR_ERR_INPUT = -1,
	IBV_REREG_MR_ERR_DONT_FORK_NEW = -2,
	IBV_REREG_MR_ERR_DO_FORK_OLD = -3,
	IBV_REREG_MR_ERR_CMD = -4,
	IBV_REREG_MR_ERR_CMD_AND_DO_FORK_NEW = -5,
};

enum ibv_mr_init_attr_mask {
	IBV_REG_MR_MASK_IOVA = 1 << 0,
	IBV_REG_MR_MASK_ADDR = 1 << 1,
	IBV_REG_MR_MASK_FD = 1 << 2,
	IBV_REG_MR_MASK_FD_OFFSET = 1 << 3,
	IBV_REG_MR_MASK_DMAH = 1 << 4,
	IBV_REG_MR_MASK_BUF = 1 << 5,
};

struct ibv_buf; /* memory that the driver allocates: perhaps a dma-buf */
struct ibv_dmah;

struct ibv_mr_init_attr {
	size_t length;
	int access;
	uint64_t comp_mask;
	uint64_t iova;
	void *addr;
	int fd;
	uint64_t fd_offset;
	struct ibv_dmah *dmah;
	struct ibv_buf *buf;
};

struct ibv_device **ibv_get_device_list(int *num_devices);
void ibv_free_device_list(struct ibv_device **list);
const char *ibv_get_device_name(struct ibv_device *device);
struct ibv_context *ibv_open_device(struct ibv_device *device);
int ibv_close_device(struct ibv_context *context);
struct ibv_pd *ibv_alloc_pd(struct ibv_context *context);
int ibv_dealloc_pd(struct ibv_pd *pd);

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access);
struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access);
struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access);
int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		 int access);
int ibv_dereg_mr(struct ibv_mr *mr);
struct ibv_mr *ibv_reg_mr_ex(struct ibv_pd *pd, struct ibv_mr_init_attr *attributes);
void *ibv_alloc_buf(struct ibv_pd *pd, size_t size, struct ibv_buf **buf);
void ibv_free_buf(struct ibv_buf *buf);
struct ibv_mr *ibv_reg_buf_mr(struct ibv_pd *pd, struct ibv_buf *buf, void *addr, size_t length,
			      int access);

/*
 * As in the real header: access that is a constant without optional bits calls
 * the function of that name; any other access calls ibv_reg_mr_iova2.
 */
#define IBV_PLAIN_ACCESS(access)                                                               \
	(__builtin_constant_p(((access) & IBV_ACCESS_OPTIONAL_RANGE) == 0) &&                  \
	 ((access) & IBV_ACCESS_OPTIONAL_RANGE) == 0)

__attribute__((always_inline)) static inline struct ibv_mr *
ibv_reg_mr_by_access(struct ibv_pd *pd, void *addr, size_t length, unsigned int access, int plain)
{
	return plain ? ibv_reg_mr(pd, addr, length, (int)access)
		     : ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, access);
}

__attribute__((always_inline)) static inline struct ibv_mr *
ibv_reg_mr_iova_by_access(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			  unsigned int access, int plain)
{
	return plain ? ibv_reg_mr_iova(pd, addr, length, iova, (int)access)
		     : ibv_reg_mr_iova2(pd, addr, length, iova, access);
}

#define ibv_reg_mr(pd, addr, length, access)                                                   \
	ibv_reg_mr_by_access(pd, addr, length, access, IBV_PLAIN_ACCESS(access))
#define ibv_reg_mr_iova(pd, addr, length, iova, access)                                        \
	ibv_reg_mr_iova_by_access(pd, addr, length, iova, access, IBV_PLAIN_ACCESS(access))

#ifdef __cplusplus
}
#endif

#endif
