// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the uses of memory that the driver's nv-p2p.c has freed, and lets them do no harm.
 *
 * What nv-p2p.c frees stays as it was until this module is unloaded, with the place that freed it. A second free is
 * counted, and not done. A kprobe at the entry of each function that gets a page table (or the structure around it, or a
 * DMA mapping) looks whether that is freed. No address is used twice, so no count can be by mistake, and the code that uses
 * freed memory finds what it would find if nobody else had got it.
 *
 * So a count says that freed memory was used, not what would have come of it. And it is a lower bound: only entries are
 * looked at (and the return from nvidia_p2p_dma_map_pages), so memory that is freed while a function is inside goes unseen.
 * One bad call counts in each function that it passes through.
 */
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include "witness.h"

#define LIMIT 2000000 /* freed objects; then no more GPU memory is given out */

/* The counters are files in /sys/module/standin/parameters. */
#define COUNTER(name, what) \
	static atomic_t name = ATOMIC_INIT(0); \
	module_param_named(name, name.counter, int, 0444); \
	MODULE_PARM_DESC(name, what)

COUNTER(checks, "times that a probe looked at a pointer");
COUNTER(used, "entries of functions that use what they are given, with freed memory");
COUNTER(named, "entries of functions that only compare the pointer, with freed memory: NVIDIA allows that");
COUNTER(registered, "page tables freed when nvidia_p2p_dma_map_pages succeeded: the registration succeeds");
COUNTER(double_frees, "second frees");
COUNTER(foreign_frees, "frees of what was not allocated here");
COUNTER(quarantined, "freed objects");

struct object {
	struct rb_node node;
	unsigned long start, size;
	const void *freed_by; /* a place in the function; NULL: in use */
};

static DEFINE_SPINLOCK(lock);
static struct rb_root objects = RB_ROOT;

/* What the counters used, registered and double_frees counted, by the function and by the one that had freed. */
static struct event {
	const char *counter;
	char function[48], freed_by[48];
	unsigned int times;
} events[32];

static void name(char *buffer, size_t size, const void *address)
{
	static char symbol[KSYM_SYMBOL_LEN];

	sprint_symbol_no_offset(symbol, (unsigned long)address);
	strscpy(buffer, symbol, size);
	strreplace(buffer, ' ', '\0'); /* "function [module]" */
}

/* With the lock. */
static void record(atomic_t *total, const char *counter, const void *where, const struct object *o)
{
	struct event new = { .counter = counter }, *e;

	atomic_inc(total);
	name(new.function, sizeof(new.function), where);
	name(new.freed_by, sizeof(new.freed_by), o->freed_by);
	for (e = events; e < events + ARRAY_SIZE(events); e++) {
		if (!e->counter)
			*e = new;
		if (e->counter == counter && !strcmp(e->function, new.function) && !strcmp(e->freed_by, new.freed_by)) {
			e->times++;
			return;
		}
	}
}

static int show_events(char *buffer, const struct kernel_param *unused)
{
	struct event *e;
	int n = 0;

	spin_lock_irq(&lock);
	for (e = events; e < events + ARRAY_SIZE(events) && e->counter; e++)
		n += scnprintf(buffer + n, PAGE_SIZE - n, "%s %s %s %u\n", e->counter, e->function, e->freed_by, e->times);
	spin_unlock_irq(&lock);
	return n;
}

static const struct kernel_param_ops events_operations = { .get = show_events };
module_param_cb(events, &events_operations, NULL, 0444);
MODULE_PARM_DESC(events, "a line each: COUNTER FUNCTION FREED-BY TIMES");

/* The object that p points into, or NULL. With the lock. */
static struct object *find(const void *p)
{
	struct rb_node *n = objects.rb_node;

	while (n) {
		struct object *o = rb_entry(n, struct object, node);

		if ((unsigned long)p < o->start)
			n = n->rb_left;
		else if ((unsigned long)p >= o->start + o->size)
			n = n->rb_right;
		else
			return o;
	}
	return NULL;
}

void *witness_alloc(size_t size)
{
	struct object *o = kzalloc(sizeof(*o), GFP_KERNEL);
	struct rb_node **link = &objects.rb_node, *parent = NULL;
	void *p = kvmalloc(max_t(size_t, size, 1), GFP_KERNEL);

	if (!o || !p) {
		kfree(o);
		kvfree(p);
		return NULL;
	}
	o->start = (unsigned long)p;
	o->size = max_t(size_t, size, 1);
	spin_lock_irq(&lock);
	while (*link) {
		parent = *link;
		link = o->start < rb_entry(parent, struct object, node)->start ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&o->node, parent, link);
	rb_insert_color(&o->node, &objects);
	spin_unlock_irq(&lock);
	return p;
}

void witness_free(const void *p)
{
	struct object *o;

	if (!p)
		return;
	spin_lock_irq(&lock);
	o = find(p);
	if (!o || o->start != (unsigned long)p) {
		atomic_inc(&foreign_frees);
	} else if (o->freed_by) {
		record(&double_frees, "double_frees", __builtin_return_address(0), o);
	} else {
		o->freed_by = __builtin_return_address(0);
		atomic_inc(&quarantined);
	}
	spin_unlock_irq(&lock);
}

bool witness_is_full(void)
{
	return atomic_read(&quarantined) >= LIMIT;
}

/* The functions, as read in 470, 535 and 550; which argument; and whether they look into what it points to. */
struct probe {
	struct kprobe kp;
	unsigned int argument;
	bool looks;
};

static void check(atomic_t *total, const char *counter, const void *where, const void *p)
{
	struct object *o;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	o = find(p);
	if (o && o->freed_by)
		record(total, counter, where, o);
	spin_unlock_irqrestore(&lock, flags);
}

static int enter(struct kprobe *kp, struct pt_regs *regs)
{
	struct probe *p = container_of(kp, struct probe, kp);
	const void *pointer = (void *)regs_get_kernel_argument(regs, p->argument);

	atomic_inc(&checks);
	if (p->looks)
		check(&used, "used", kp->addr, pointer);
	else
		check(&named, "named", kp->addr, pointer);
	return 0;
}

#define PROBE(function, n, does) { .kp = { .symbol_name = #function, .pre_handler = enter }, .argument = n, .looks = does }
static struct probe probes[] = {
	PROBE(nvidia_p2p_dma_map_pages, 1, true),
	PROBE(nvidia_p2p_dma_unmap_pages, 1, true),
	PROBE(nv_p2p_insert_dma_mapping, 0, true),
	PROBE(nv_p2p_remove_dma_mapping, 0, true),
	PROBE(nv_p2p_free_dma_mapping, 0, true),
	PROBE(nv_p2p_free_page_table, 0, true),
	PROBE(nv_p2p_mem_info_free_callback, 0, true),
	PROBE(nvidia_p2p_put_pages, 3, false),
	PROBE(nvidia_p2p_free_page_table, 0, false),
	PROBE(nvidia_p2p_free_dma_mapping, 0, false),
};

/*
 * A page table that is freed before nvidia-peermem knows of its DMA mapping: the callback then tells the peer core nothing,
 * and the device would go on with addresses of freed memory.
 */
static int map_enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	*(void **)ri->data = (void *)regs_get_kernel_argument(regs, 1);
	return 0;
}

static int map_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (!regs_return_value(regs))
		check(&registered, "registered", get_kretprobe(ri)->kp.addr, *(void **)ri->data);
	return 0;
}

static struct kretprobe map_probe = {
	.kp.symbol_name = "nvidia_p2p_dma_map_pages",
	.entry_handler = map_enter,
	.handler = map_return,
	.data_size = sizeof(void *),
	.maxactive = 64,
};

static int show_missed(char *buffer, const struct kernel_param *unused)
{
	unsigned long n = map_probe.nmissed + map_probe.kp.nmissed;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		n += probes[i].kp.nmissed;
	return sprintf(buffer, "%lu\n", n);
}

static const struct kernel_param_ops missed_operations = { .get = show_missed };
module_param_cb(missed, &missed_operations, NULL, 0444);
MODULE_PARM_DESC(missed, "times that a probe could not look");

static void unprobe(unsigned int n)
{
	while (n--)
		unregister_kprobe(&probes[n].kp);
}

int witness_begin(void)
{
	unsigned int i;
	int error;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		error = register_kprobe(&probes[i].kp);
		if (error) {
			pr_err("standin: no probe at %s: %d\n", probes[i].kp.symbol_name, error);
			unprobe(i);
			return error;
		}
	}
	error = register_kretprobe(&map_probe);
	if (error)
		unprobe(i);
	return error;
}

void witness_end(void)
{
	struct object *o, *next;

	unregister_kretprobe(&map_probe);
	unprobe(ARRAY_SIZE(probes));
	rbtree_postorder_for_each_entry_safe(o, next, &objects, node) {
		kvfree((void *)o->start);
		kfree(o);
	}
}
