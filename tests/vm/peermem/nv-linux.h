/* SPDX-License-Identifier: GPL-2.0 */
/*
 * In the place of the driver's nv-linux.h, nv.h, os-interface.h and nvmisc.h: what nv-p2p.c needs of them. Every
 * allocation of nv-p2p.c, and every free, goes to the witness. The rest is in rm.c.
 */
#ifndef PEERMEM_NV_LINUX_H
#define PEERMEM_NV_LINUX_H
#include <linux/io.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/div64.h>
#include "witness.h"

typedef u8 NvU8;
typedef u32 NvU32;
typedef u64 NvU64;
typedef u8 NvBool;
typedef u32 NV_STATUS;
#define NV_TRUE 1
#define NV_FALSE 0
#define NV_API_CALL

/* nv-p2p.c and rm.c alone use these, so the values need only differ. */
enum {
	NV_OK,
	NV_ERR_GENERIC,
	NV_ERR_GPU_UUID_NOT_FOUND,
	NV_ERR_INSUFFICIENT_RESOURCES,
	NV_ERR_INVALID_ADDRESS,
	NV_ERR_INVALID_ARGUMENT,
	NV_ERR_INVALID_OBJECT_HANDLE,
	NV_ERR_INVALID_STATE,
	NV_ERR_NOT_SUPPORTED,
	NV_ERR_NO_MEMORY,
	NV_ERR_OBJECT_NOT_FOUND,
	NV_ERR_STATE_IN_USE,
};

typedef struct { char bytes[64]; } nvidia_stack_t; /* the real one is a stack for the closed part; nothing here uses it */
typedef struct { struct { NvU64 start, limit; } addressable_range; struct device *dev; } nv_dma_device_t;
typedef struct { int unused; } nv_state_t;

/* A list of GPUs, for POWER9's NVLink only. It is empty. */
typedef struct nv_linux_state { struct nv_linux_state *next; struct pci_dev *pci_dev; nv_state_t state; } nv_linux_state_t;
extern nv_linux_state_t *nv_linux_devices;
#define NV_STATE_PTR(nvl) (&(nvl)->state)
#define LOCK_NV_LINUX_DEVICES() do { } while (0)
#define UNLOCK_NV_LINUX_DEVICES() do { } while (0)
#define NV_IOCTL_NUMA_STATUS_DISABLED 0
#define nv_ioremap_nocache(address, size) ioremap(address, size)
#define nv_iounmap(p, size) iounmap(p)

#define NV_INIT_MUTEX(mutex) sema_init(mutex, 1)
#define NV_EXPORT_SYMBOL(symbol) EXPORT_SYMBOL(symbol)
#define NV_ARRAY_ELEMENTS(array) ARRAY_SIZE(array)
#define NV_IS_ALIGNED64(value, size) IS_ALIGNED((u64)(value), (u64)(size))
#define NV_DBG_ERRORS KERN_ERR
#define nv_printf(level, ...) printk(level __VA_ARGS__)

/* Its allocations. */
#define NV_KMEM_CACHE_ALLOC(cache) witness_alloc(32) /* a struct nvidia_p2p_page, the same in all three releases */
#define NV_KMEM_CACHE_FREE(p, cache) witness_free(p)
#define nv_kmem_cache_free_stack(p) witness_free(p)
#define os_free_mem(p) witness_free(p)
#define os_mem_copy(to, from, size) memcpy(to, from, size)
int nv_kmem_cache_alloc_stack(nvidia_stack_t **stack);
NV_STATUS os_alloc_mem(void **p, NvU64 size);

/* What it calls of the driver, and of the RM. */
NV_STATUS nv_dma_unmap_peer(nv_dma_device_t *, NvU64 pages, NvU64 address);
NV_STATUS nv_dma_unmap_alloc(nv_dma_device_t *, NvU64 pages, NvU64 *addresses, void **private);
NV_STATUS nv_get_ibmnpu_genreg_info(nv_state_t *, NvU64 *, NvU64 *, void **);
int nvidia_dev_get_uuid(const NvU8 *uuid, nvidia_stack_t *);
void nvidia_dev_put_uuid(const NvU8 *uuid, nvidia_stack_t *);
void nv_p2p_free_platform_data(void *data);

NV_STATUS rm_p2p_get_pages(nvidia_stack_t *, NvU64 token, NvU32 space, NvU64 address, NvU64 length, NvU64 *physical,
			   NvU32 *w, NvU32 *r, NvU32 *entries, NvU8 **uuid, void *key);
NV_STATUS rm_p2p_register_callback(nvidia_stack_t *, NvU64 token, NvU64 address, NvU64 length, void *key,
				   void (*callback)(void *), void *data);
NV_STATUS rm_p2p_put_pages(nvidia_stack_t *, NvU64 token, NvU32 space, NvU64 address, void *key);
NV_STATUS rm_p2p_dma_map_pages(nvidia_stack_t *, nv_dma_device_t *, NvU8 *uuid, NvU64 page_size, NvU32 count,
			       NvU64 *addresses, void **private);
NV_STATUS rm_p2p_get_gpu_info(nvidia_stack_t *, NvU64 address, NvU64 length, NvU8 **uuid, void **info);
NV_STATUS rm_p2p_get_pages_persistent(nvidia_stack_t *, NvU64 address, NvU64 length, void **object, NvU64 *physical,
				      NvU32 *entries, void *key, void *info);
NV_STATUS rm_p2p_put_pages_persistent(nvidia_stack_t *, void *object, void *key);
NV_STATUS rm_p2p_init_mapping(nvidia_stack_t *, NvU64, NvU64 *, NvU64 *, NvU64 *, NvU64 *, NvU64, NvU64, NvU64, NvU64,
			      void (*)(void *), void *);
NV_STATUS rm_p2p_destroy_mapping(nvidia_stack_t *, NvU64);
#endif
