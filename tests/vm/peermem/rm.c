// SPDX-License-Identifier: GPL-2.0
/*
 * Stands in for NVIDIA's resource manager (RM), and is linked with the driver's own nv-p2p.c and the witness into one
 * module. GPU memory is RAM, mapped by the character device /dev/nvidiactl, and freed by NV_ESC_RM_FREE.
 *
 * Each function says what it copies of the open source of 535.216.03 (osapi.c, p2p.c, third_party_p2p.c). 550.163.01 is
 * taken to do the same; so is the closed RM of 470.256.02, of which no source is known.
 *
 * What this cannot show: no data moves, so nothing is seen of a device that writes to freed memory. There is one GPU. The
 * time between two steps of nv-p2p.c is not that of a real RM.
 */
#include "nv-linux.h"
#include "device.h"
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/random.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("stands in for nvidia.ko, around its own nv-p2p.c");

#define CHUNK_ORDER 4
static_assert(PAGE_SIZE << CHUNK_ORDER == GPU_PAGE);

static unsigned int delay;
module_param(delay, uint, 0644);
MODULE_PARM_DESC(delay, "at most so many microseconds, at random, after a callback is registered; 0: none");

struct memory {
	struct list_head node, mappings;
	struct kref kref; /* the allocation has one, and each mapping into a process */
	struct file *file;
	pid_t owner;
	u32 handle;
	u64 address, size;
	unsigned int chunks;
	struct page *chunk[];
};

/* CLI_THIRD_PARTY_P2P_MAPPING_INFO: the key is the address of nv-p2p.c's page table. */
struct mapping {
	struct list_head node;
	void *key, *data;
	void (*callback)(void *data);
};

static DECLARE_RWSEM(api_lock);
static LIST_HEAD(memories);
static u32 handles;
static const NvU8 the_uuid[16] = "a stand-in's GPU";

/* nv.c's: the witness takes the cache's place, and there is no POWER9. */
void *nvidia_p2p_page_t_cache;
nv_linux_state_t *nv_linux_devices;

static void memory_release(struct kref *kref)
{
	struct memory *m = container_of(kref, struct memory, kref);
	unsigned int i;

	for (i = 0; i < m->chunks; i++)
		if (m->chunk[i])
			__free_pages(m->chunk[i], CHUNK_ORDER);
	kvfree(m);
}

/* The services of the driver's other files. */

int nv_kmem_cache_alloc_stack(nvidia_stack_t **stack)
{
	*stack = witness_alloc(sizeof(**stack));
	return *stack ? 0 : -ENOMEM;
}

NV_STATUS os_alloc_mem(void **p, NvU64 size)
{
	*p = witness_alloc(size);
	return *p ? NV_OK : NV_ERR_NO_MEMORY;
}

/* rm_p2p_dma_map_pages() maps nothing, so there is nothing to unmap. */
NV_STATUS nv_dma_unmap_peer(nv_dma_device_t *device, NvU64 pages, NvU64 address)
{
	return NV_OK;
}

/* For coherent GPUs only: rm_p2p_dma_map_pages() leaves `private` NULL. */
NV_STATUS nv_dma_unmap_alloc(nv_dma_device_t *device, NvU64 pages, NvU64 *addresses, void **private)
{
	WARN_ON(1);
	return NV_ERR_GENERIC;
}

/* A real GPU's use count, which nv-p2p.c gives back after its last use of a persistent page table. Not counted here. */
int nvidia_dev_get_uuid(const NvU8 *uuid, nvidia_stack_t *stack)
{
	return 0;
}

void nvidia_dev_put_uuid(const NvU8 *uuid, nvidia_stack_t *stack)
{
}

/* POWER9's: nothing here calls them. */
NV_STATUS nv_get_ibmnpu_genreg_info(nv_state_t *nv, NvU64 *address, NvU64 *size, void **device)
{
	return NV_ERR_NOT_SUPPORTED;
}

int nv_get_ibmnpu_chip_id(nv_state_t *nv)
{
	return 0;
}

int nv_register_rsync_driver(int (*get)(int *, void *), void (*put)(int, void *),
			     void (*wait)(struct pci_dev *, void *), void *data)
{
	return -ENODEV;
}

void nv_unregister_rsync_driver(int (*get)(int *, void *), void (*put)(int, void *),
				void (*wait)(struct pci_dev *, void *), void *data)
{
}

/*
 * The RM's side of nv-p2p.c. In each of these functions, the RM takes its API lock for writing, and releases it before it
 * returns (rmapiLockAcquire and rmapiLockRelease in osapi.c). So nv-p2p.c does several steps, and the lock is free in
 * between. (The locks of a GPU, which the RM takes within that lock, have no part in this.)
 */

/* RmP2PGetInfoWithoutToken: looks through the memory of the calling process. */
static struct memory *find_memory(u64 address, u64 length)
{
	struct memory *m;

	list_for_each_entry(m, &memories, node)
		if (m->owner == current->tgid && m->address && address >= m->address &&
		    address + length <= m->address + m->size)
			return m;
	return NULL;
}

/* The same with a key, which does not look at the address (RmP2PPutPages passes a length of 0). */
static struct mapping *find_mapping(const void *key)
{
	struct memory *m;
	struct mapping *mapping;

	list_for_each_entry(m, &memories, node)
		if (m->owner == current->tgid)
			list_for_each_entry(mapping, &m->mappings, node)
				if (mapping->key == key)
					return mapping;
	return NULL;
}

/* The RM gives out addresses in a GPU's BAR1. These are the addresses of the RAM. */
static void fill(const struct memory *m, u64 address, u64 length, NvU64 *physical, NvU32 *entries)
{
	u64 first = (address - m->address) / GPU_PAGE, i;

	*entries = DIV_ROUND_UP(length, GPU_PAGE);
	for (i = 0; i < *entries; i++)
		physical[i] = page_to_phys(m->chunk[first + i]);
}

/* nv-p2p.c frees it. */
static NV_STATUS copy_uuid(NvU8 **uuid)
{
	*uuid = witness_alloc(sizeof(the_uuid));
	if (!*uuid)
		return NV_ERR_NO_MEMORY;
	memcpy(*uuid, the_uuid, sizeof(the_uuid));
	return NV_OK;
}

/* Makes a mapping without a callback (RmP2PGetPagesWithoutCallbackRegistration). */
NV_STATUS rm_p2p_get_pages(nvidia_stack_t *stack, NvU64 token, NvU32 space, NvU64 address, NvU64 length,
			   NvU64 *physical, NvU32 *w, NvU32 *r, NvU32 *entries, NvU8 **uuid, void *key)
{
	NV_STATUS status = NV_ERR_OBJECT_NOT_FOUND;
	struct mapping *mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);
	struct memory *m;

	if (!mapping)
		return NV_ERR_NO_MEMORY;
	down_write(&api_lock);
	m = find_memory(address, length);
	if (m)
		status = copy_uuid(uuid);
	if (status == NV_OK) {
		fill(m, address, length, physical, entries);
		memset(w, 0, *entries * sizeof(*w));
		memset(r, 0, *entries * sizeof(*r));
		mapping->key = key;
		list_add_tail(&mapping->node, &m->mappings);
		mapping = NULL;
	}
	up_write(&api_lock);
	kfree(mapping);
	return status;
}

/* A second callback for a mapping is refused (CliRegisterThirdPartyP2PMappingCallback). From here on a free calls it. */
NV_STATUS rm_p2p_register_callback(nvidia_stack_t *stack, NvU64 token, NvU64 address, NvU64 length, void *key,
				   void (*callback)(void *), void *data)
{
	NV_STATUS status = NV_ERR_OBJECT_NOT_FOUND;
	struct mapping *mapping;

	down_write(&api_lock);
	mapping = find_mapping(key);
	if (mapping && mapping->callback)
		status = NV_ERR_INVALID_STATE;
	else if (mapping) {
		mapping->callback = callback;
		mapping->data = data;
		status = NV_OK;
	}
	up_write(&api_lock);
	if (delay)
		usleep_range(1, 1 + get_random_u32() % delay);
	return status;
}

/* Removes the mapping, unless a free has done so (RmP2PPutPages, thirdpartyp2pDelMappingInfoByKey). */
NV_STATUS rm_p2p_put_pages(nvidia_stack_t *stack, NvU64 token, NvU32 space, NvU64 address, void *key)
{
	struct mapping *mapping;

	down_write(&api_lock);
	mapping = find_mapping(key);
	if (mapping)
		list_del(&mapping->node);
	up_write(&api_lock);
	kfree(mapping);
	return mapping ? NV_OK : NV_ERR_OBJECT_NOT_FOUND;
}

/* Looks the GPU up by the id in the page table, and maps each page. No IOMMU is programmed here: the addresses stay. */
NV_STATUS rm_p2p_dma_map_pages(nvidia_stack_t *stack, nv_dma_device_t *device, NvU8 *uuid, NvU64 page_size, NvU32 count,
			       NvU64 *addresses, void **private)
{
	NV_STATUS status;

	*private = NULL;
	down_write(&api_lock);
	status = memcmp(uuid, the_uuid, sizeof(the_uuid)) ? NV_ERR_INVALID_ARGUMENT : NV_OK;
	up_write(&api_lock);
	return status;
}

/*
 * The next three are for a client without a callback, which nvidia-peermem registers as its second. With the default
 * parameters of these releases the first one takes all GPU memory, so the second one never registers any.
 */
NV_STATUS rm_p2p_get_gpu_info(nvidia_stack_t *stack, NvU64 address, NvU64 length, NvU8 **uuid, void **info)
{
	return NV_ERR_NOT_SUPPORTED;
}

NV_STATUS rm_p2p_get_pages_persistent(nvidia_stack_t *stack, NvU64 address, NvU64 length, void **object, NvU64 *physical,
				      NvU32 *entries, void *key, void *info)
{
	return NV_ERR_NOT_SUPPORTED;
}

NV_STATUS rm_p2p_put_pages_persistent(nvidia_stack_t *stack, void *object, void *key)
{
	return NV_ERR_NOT_SUPPORTED;
}

/* Only 470 calls the last two, for nvidia_p2p_init_mapping(), which nvidia-peermem does not use. */
NV_STATUS rm_p2p_init_mapping(nvidia_stack_t *stack, NvU64 token, NvU64 *a, NvU64 *b, NvU64 *c, NvU64 *d, NvU64 e,
			      NvU64 f, NvU64 g, NvU64 h, void (*callback)(void *), void *data)
{
	return NV_ERR_NOT_SUPPORTED;
}

NV_STATUS rm_p2p_destroy_mapping(nvidia_stack_t *stack, NvU64 token)
{
	return NV_ERR_NOT_SUPPORTED;
}

/*
 * Frees a block, with the API lock: calls the callbacks one after the other, each before its mapping is removed
 * (CliDelThirdPartyP2PVidmemInfo).
 */
static void free_memory(struct memory *m)
{
	while (!list_empty(&m->mappings)) {
		struct mapping *mapping = list_first_entry(&m->mappings, struct mapping, node);

		if (mapping->callback)
			mapping->callback(mapping->data);
		list_del(&mapping->node);
		kfree(mapping);
	}
	list_del(&m->node);
	kref_put(&m->kref, memory_release);
}

/* The device. Its interface is ours, but for the request that frees. */

static long allocate(struct file *file, struct allocation *a)
{
	unsigned int chunks = DIV_ROUND_UP(a->size, GPU_PAGE);
	struct memory *m;

	if (witness_is_full())
		return -ENOSPC;
	m = kvzalloc(struct_size(m, chunk, chunks), GFP_KERNEL);
	if (!m)
		return -ENOMEM;
	INIT_LIST_HEAD(&m->mappings);
	kref_init(&m->kref);
	m->file = file;
	m->owner = current->tgid;
	m->size = chunks * GPU_PAGE;
	for (m->chunks = 0; m->chunks < chunks; m->chunks++) {
		m->chunk[m->chunks] = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, CHUNK_ORDER);
		if (!m->chunk[m->chunks]) {
			kref_put(&m->kref, memory_release);
			return -ENOMEM;
		}
	}
	down_write(&api_lock);
	a->handle = m->handle = ++handles;
	list_add_tail(&m->node, &memories);
	up_write(&api_lock);
	a->status = NV_OK;
	return 0;
}

static long release(struct release *r)
{
	struct memory *m;

	r->status = NV_ERR_OBJECT_NOT_FOUND;
	down_write(&api_lock);
	list_for_each_entry(m, &memories, node)
		if (m->handle == r->object && m->owner == current->tgid) {
			free_memory(m);
			r->status = NV_OK;
			break;
		}
	up_write(&api_lock);
	return 0;
}

static long control(struct file *file, unsigned int request, unsigned long argument)
{
	union {
		struct allocation allocation;
		struct release release;
	} u;
	long error = -ENOTTY;

	static_assert(RM_FREE == 0xC0104629 && sizeof(struct allocation) == sizeof(u) && sizeof(struct release) == sizeof(u));
	if (copy_from_user(&u, (void __user *)argument, sizeof(u)))
		return -EFAULT;
	if (request == ALLOCATE)
		error = allocate(file, &u.allocation);
	else if (request == RM_FREE)
		error = release(&u.release);
	return error ?: copy_to_user((void __user *)argument, &u, sizeof(u)) ? -EFAULT : 0;
}

static void vma_open(struct vm_area_struct *vma)
{
	kref_get(&((struct memory *)vma->vm_private_data)->kref);
}

static void vma_close(struct vm_area_struct *vma)
{
	kref_put(&((struct memory *)vma->vm_private_data)->kref, memory_release);
}

static const struct vm_operations_struct vma_operations = { .open = vma_open, .close = vma_close };

/* As the driver maps device memory: pages that the kernel cannot pin, so that it asks the peer client for them. */
static int map(struct file *file, struct vm_area_struct *vma)
{
	struct memory *m, *found = NULL;
	unsigned int i;
	int error = 0;

	down_write(&api_lock);
	list_for_each_entry(m, &memories, node)
		if (m->handle == vma->vm_pgoff && m->owner == current->tgid && !m->address &&
		    m->size == vma->vm_end - vma->vm_start)
			found = m;
	if (found) {
		kref_get(&found->kref);
		found->address = vma->vm_start;
	}
	up_write(&api_lock);
	if (!found)
		return -EINVAL;
	vma->vm_private_data = found;
	vma->vm_ops = &vma_operations;
	vma->vm_flags |= VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP;
	for (i = 0; i < found->chunks && !error; i++)
		error = remap_pfn_range(vma, vma->vm_start + i * GPU_PAGE, page_to_pfn(found->chunk[i]), GPU_PAGE,
					vma->vm_page_prot);
	if (error)
		kref_put(&found->kref, memory_release);
	return error;
}

/* What the process has not freed. */
static int close(struct inode *inode, struct file *file)
{
	struct memory *m, *next;

	down_write(&api_lock);
	list_for_each_entry_safe(m, next, &memories, node)
		if (m->file == file)
			free_memory(m);
	up_write(&api_lock);
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE, .unlocked_ioctl = control, .mmap = map, .release = close,
};
static struct miscdevice device = { .minor = MISC_DYNAMIC_MINOR, .name = "nvidiactl", .fops = &operations };

static int __init begin(void)
{
	int error = witness_begin();

	if (error)
		return error;
	error = misc_register(&device);
	if (error)
		witness_end();
	return error;
}

static void __exit end(void)
{
	misc_deregister(&device);
	witness_end();
}

module_init(begin);
module_exit(end);
