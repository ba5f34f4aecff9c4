// SPDX-License-Identifier: GPL-2.0
/*
 * Stands in for the peer memory that vendors' kernels and OFED build into ib_uverbs and mlx5_ib, around a stock ib_uverbs
 * and rdma_rxe. The client is the driver's own nvidia-peermem. Our own code; the order of its steps, and its locks, are those
 * read in NVIDIA's kernel tree (peer_mem.c, and mlx5's mr.c):
 *
 * - ib_umem_get() asks the peer clients where ordinary pinning fails. A host-wide mutex is held across `acquire`.
 * - A region's mutex is taken before `get_pages`, and held until the device's driver has made the region's key.
 * - A deregistration takes the mutex and marks the region as unmapped. Then, for a client that unmaps in its own callback
 *   (PEER_MEM_INVALIDATE_UNMAPS, nvidia-peermem's default), it drops the mutex before `dma_unmap` and `put_pages`.
 *   For any other client it calls them with the mutex.
 * - The invalidation finds the region by its number, takes its mutex, has the device revoke the key, and marks the region.
 *
 * What this cannot show: no device makes or revokes a key, and none uses an address. OFED 4.x, which asks the peer clients
 * before ordinary pinning, is not copied.
 */
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kref.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include "peer_mem.h" /* the driver's own */

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("stands in for peer memory in ib_uverbs");

static unsigned int delay;
module_param(delay, uint, 0644);
MODULE_PARM_DESC(delay, "at most so many microseconds, at random, between dropping a region's mutex and dma_unmap; 0: none");

struct client {
	struct list_head node;
	const struct peer_memory_client *ops;
	bool invalidates; /* it has a callback for freed memory */
	refcount_t users;
	struct completion unused;
	struct xarray regions;
	u32 next;
};

enum state { NEW, MAPPED, INVALIDATED, UNMAPPED };

struct region {
	struct ib_umem umem;
	struct hlist_node node;
	struct kref kref;
	struct mutex lock;
	struct client *client;
	void *context; /* the client's */
	u32 id; /* for the client's callback, or NO_ID */
	enum state state;
	bool active, stopped;
	struct task_struct *registering; /* until mr is known */
	struct ib_mr *mr;
};

#define NO_ID U32_MAX

static DEFINE_MUTEX(clients_lock);
static LIST_HEAD(clients);
static DEFINE_SPINLOCK(table_lock);
static HLIST_HEAD(table);
static struct pci_dev *pci; /* the device that DMA is mapped for: rxe has none of its own */

static void region_release(struct kref *kref)
{
	kfree(container_of(kref, struct region, kref));
}

/* PEER_MEM_INVALIDATE_UNMAPS, which only a client of the newer structure can have. */
static bool unmaps_itself(const struct region *r)
{
	const struct peer_memory_client_ex *ex;

	if (!r->client->ops->version[IB_PEER_MEMORY_VER_MAX - 1])
		return false;
	ex = container_of(r->client->ops, const struct peer_memory_client_ex, client);
	return ex->ex_size >= offsetofend(struct peer_memory_client_ex, flags) && ex->flags & PEER_MEM_INVALIDATE_UNMAPS;
}

/* Invalidated by a client that unmaps in its own callback, the region stays the client's until it is deregistered. */
static void unmap(struct region *r, enum state from, enum state to)
{
	if (from == MAPPED) {
		if (to == UNMAPPED) {
			r->client->ops->dma_unmap(&r->umem.sgt_append.sgt, r->context, &pci->dev);
			r->client->ops->put_pages(&r->umem.sgt_append.sgt, r->context);
		}
		memset(&r->umem.sgt_append, 0, sizeof(r->umem.sgt_append));
	}
	r->state = to;
}

/* What nvidia-peermem's callback calls. A device would revoke the region's key here, with the mutex. */
static int invalidate(void *handle, u64 id)
{
	struct client *c = handle;
	struct region *r;

	xa_lock(&c->regions);
	r = xa_load(&c->regions, id);
	if (r)
		kref_get(&r->kref);
	xa_unlock(&c->regions);
	if (!r)
		return 0;
	mutex_lock(&r->lock);
	unmap(r, r->state, unmaps_itself(r) ? INVALIDATED : UNMAPPED);
	mutex_unlock(&r->lock);
	kref_put(&r->kref, region_release);
	return 0;
}

void *ib_register_peer_memory_client(const struct peer_memory_client *ops, invalidate_peer_memory *callback)
{
	struct client *c = kzalloc(sizeof(*c), GFP_KERNEL);

	if (!c)
		return NULL;
	c->ops = ops;
	c->invalidates = callback;
	refcount_set(&c->users, 1);
	init_completion(&c->unused);
	xa_init_flags(&c->regions, XA_FLAGS_ALLOC);
	if (callback)
		*callback = invalidate;
	mutex_lock(&clients_lock);
	list_add_tail(&c->node, &clients);
	mutex_unlock(&clients_lock);
	return c;
}
EXPORT_SYMBOL(ib_register_peer_memory_client);

static void client_put(struct client *c)
{
	if (refcount_dec_and_test(&c->users))
		complete(&c->unused);
}

void ib_unregister_peer_memory_client(void *handle)
{
	struct client *c = handle;

	mutex_lock(&clients_lock);
	list_del(&c->node);
	mutex_unlock(&clients_lock);
	client_put(c);
	wait_for_completion(&c->unused);
	xa_destroy(&c->regions);
	kfree(c);
}
EXPORT_SYMBOL(ib_unregister_peer_memory_client);

/* The first client that takes the memory. `acquire` runs with the mutex of all clients, host-wide. */
static struct client *acquire(unsigned long address, size_t length, void **context)
{
	struct client *c;

	mutex_lock(&clients_lock);
	list_for_each_entry(c, &clients, node)
		if (c->ops->acquire(address, length, NULL, NULL, context) > 0) {
			refcount_inc(&c->users);
			mutex_unlock(&clients_lock);
			return c;
		}
	mutex_unlock(&clients_lock);
	return NULL;
}

/* After the client's put_pages, or in its place. */
static void drop(struct region *r)
{
	struct client *c = r->client;

	if (r->id != NO_ID)
		xa_erase(&c->regions, r->id);
	c->ops->release(r->context);
	client_put(c);
	mmdrop(r->umem.owning_mm);
	kref_put(&r->kref, region_release);
}

/* ib_umem_get_peer(): acquire, and with the region's mutex get_pages and dma_map. */
static struct ib_umem *peer_get(struct ib_device *dev, unsigned long address, size_t length, int access, int error)
{
	struct region *r;
	struct client *c;
	void *context;

	c = acquire(address, length, &context);
	if (!c)
		return ERR_PTR(error);
	r = kzalloc(sizeof(*r), GFP_KERNEL);
	if (!r) {
		c->ops->release(context);
		client_put(c);
		return ERR_PTR(-ENOMEM);
	}
	kref_init(&r->kref);
	mutex_init(&r->lock);
	r->client = c;
	r->context = context;
	r->id = NO_ID;
	r->umem.ibdev = dev;
	r->umem.address = address;
	r->umem.length = length;
	r->umem.iova = address;
	r->umem.writable = !!(access & (IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_ATOMIC | IB_ACCESS_MW_BIND));
	r->umem.owning_mm = current->mm;
	mmgrab(current->mm);

	mutex_lock(&r->lock);
	error = 0;
	if (c->invalidates)
		error = min(0, xa_alloc_cyclic(&c->regions, &r->id, r, XA_LIMIT(0, NO_ID - 1), &c->next, GFP_KERNEL));
	if (!error)
		error = c->ops->get_pages(address, length, 1, !r->umem.writable, NULL, context, r->id);
	if (!error) {
		error = c->ops->dma_map(&r->umem.sgt_append.sgt, context, &pci->dev, 0, &r->umem.sgt_append.sgt.nents);
		if (error)
			c->ops->put_pages(&r->umem.sgt_append.sgt, context);
	}
	if (error) {
		if (r->id != NO_ID)
			xa_erase(&c->regions, r->id);
		r->id = NO_ID;
		mutex_unlock(&r->lock);
		drop(r);
		return ERR_PTR(error);
	}
	r->state = MAPPED;
	r->registering = current;
	if (r->id == NO_ID)
		mutex_unlock(&r->lock);
	/* With a number, the mutex stays held until hooked_reg(). */
	spin_lock(&table_lock);
	hlist_add_head(&r->node, &table);
	spin_unlock(&table_lock);
	return &r->umem;
}

/* The first step of a deregistration, while the device's driver still has the region: no more DMA. */
static void stop(struct region *r)
{
	enum state state;

	if (r->stopped)
		return;
	r->stopped = true;
	if (r->active || r->id == NO_ID)
		mutex_lock(&r->lock);
	r->active = false;
	if (!unmaps_itself(r)) {
		unmap(r, r->state, UNMAPPED);
		mutex_unlock(&r->lock);
	} else {
		state = r->state;
		r->state = UNMAPPED;
		mutex_unlock(&r->lock);
		if (delay)
			usleep_range(1, 1 + get_random_u32() % delay);
		unmap(r, state, UNMAPPED);
	}
}

/* By the umem, by the mr, or, with neither, the one that the calling task is registering. */
static struct region *find(const struct ib_umem *umem, const struct ib_mr *mr, bool remove)
{
	struct region *r, *found = NULL;

	spin_lock(&table_lock);
	hlist_for_each_entry(r, &table, node)
		if (umem ? &r->umem == umem : mr ? r->mr == mr : r->registering == current) {
			found = r;
			break;
		}
	if (found && remove)
		hlist_del(&found->node);
	spin_unlock(&table_lock);
	return found;
}

/* In the place of ib_uverbs' functions, which they call. These calls are not tail calls: see redirect(). */

static struct ib_umem *hooked_get(struct ib_device *dev, unsigned long address, size_t length, int access)
{
	struct ib_umem *umem = ib_umem_get(dev, address, length, access);

	if (IS_ERR(umem) && length)
		umem = peer_get(dev, address, length, access, PTR_ERR(umem));
	return umem;
}

static void hooked_release(struct ib_umem *umem)
{
	struct region *r = umem ? find(umem, NULL, true) : NULL;

	if (!r) {
		ib_umem_release(umem);
		return;
	}
	stop(r);
	drop(r);
}

/* ftrace, at the entry of ib_uverbs' functions: to ours, unless ours is the caller. */
static void notrace redirect(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);

	if (!within_module(parent, THIS_MODULE))
		regs->ip = (unsigned long)ops->private;
}

#define FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION | FTRACE_OPS_FL_IPMODIFY)
static struct ftrace_ops get_ops = { .func = redirect, .flags = FLAGS, .private = hooked_get };
static struct ftrace_ops release_ops = { .func = redirect, .flags = FLAGS, .private = hooked_release };

/* mlx5_ib's part: the key is made after reg_user_mr, and DMA is stopped before dereg_mr. All devices are rxe's. */

static struct ib_mr *(*reg_user_mr)(struct ib_pd *, u64, u64, u64, int, struct ib_udata *);
static int (*dereg_mr)(struct ib_mr *, struct ib_udata *);

static struct ib_mr *hooked_reg(struct ib_pd *pd, u64 start, u64 length, u64 iova, int access, struct ib_udata *udata)
{
	struct ib_mr *mr = reg_user_mr(pd, start, length, iova, access, udata);
	struct region *r;

	if (IS_ERR(mr))
		return mr;
	r = find(NULL, NULL, false);
	if (r) {
		r->mr = mr;
		r->registering = NULL;
		if (r->id != NO_ID) {
			r->active = true;
			mutex_unlock(&r->lock);
		}
	}
	return mr;
}

static int hooked_dereg(struct ib_mr *mr, struct ib_udata *udata)
{
	struct region *r = find(NULL, mr, false);

	if (r)
		stop(r);
	return dereg_mr(mr, udata);
}

static int add(struct ib_device *dev)
{
	if (!dev->ops.reg_user_mr || dev->ops.reg_user_mr == hooked_reg)
		return -EOPNOTSUPP;
	reg_user_mr = dev->ops.reg_user_mr;
	dereg_mr = dev->ops.dereg_mr;
	dev->ops.reg_user_mr = hooked_reg;
	dev->ops.dereg_mr = hooked_dereg;
	return 0;
}

static void remove(struct ib_device *dev, void *data)
{
	dev->ops.reg_user_mr = reg_user_mr;
	dev->ops.dereg_mr = dereg_mr;
}

static struct ib_client watcher = { .name = "peercore", .add = add, .remove = remove };

static int __init begin(void)
{
	int error;

	pci = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, NULL);
	if (!pci)
		return -ENODEV;
	error = ftrace_set_filter_ip(&get_ops, (unsigned long)ib_umem_get, 0, 0) ?:
		ftrace_set_filter_ip(&release_ops, (unsigned long)ib_umem_release, 0, 0) ?:
		register_ftrace_function(&get_ops);
	if (error)
		goto no_get;
	error = register_ftrace_function(&release_ops);
	if (error)
		goto no_release;
	error = ib_register_client(&watcher);
	if (!error)
		return 0;
	unregister_ftrace_function(&release_ops);
no_release:
	unregister_ftrace_function(&get_ops);
no_get:
	pci_dev_put(pci);
	return error;
}

static void __exit end(void)
{
	ib_unregister_client(&watcher);
	unregister_ftrace_function(&release_ops);
	unregister_ftrace_function(&get_ops);
	pci_dev_put(pci);
}

module_init(begin);
module_exit(end);
