/*
 * A libibverbs.so.1 in software, for machines with no RDMA.
 *
 * It has the symbols, ELF versions and structures of rdma-core 44, for as much
 * of the API as registering memory needs: devices, contexts, protection
 * domains, memory regions, and the 1.0 ABI beside the current one; and
 * ibv_reg_mr_ex() and buffers as in rdma-core 65.
 *
 * Its race detector simulates a kernel with racing page callbacks: when two
 * threads are inside a registration or deregistration at once, the process
 * dies of SIGSEGV. A thread that enters again (from a signal handler) is still
 * one thread, and a thread that has ended is no longer inside. Memory that allows no
 * access is treated as GPU memory. fake_gpu_free() frees it; the test library that
 * simulates the NVIDIA driver calls this function.
 *
 * Read once, at load:
 *   FAKE_IBV_DEVICES           number of devices, 0 to 64 (default 4)
 *   FAKE_IBV_HOLD_US           microseconds inside a call (default 200)
 *   FAKE_IBV_RACE              die (default); device: die only if a call on GPU memory
 *                              overlaps another such call, or a free; count: keep the
 *                              peak and go on
 *   FAKE_IBV_WITNESS           file for the counts and peaks, written at exit
 *                              (a forked child writes to FILE.PID)
 *   FAKE_IBV_KERNEL            file in which several copies of this library, in one
 *                              process, share their race detector
 *   FAKE_IBV_IOCTL             1: each registration and deregistration also makes its
 *                              request to the kernel, on descriptor -1
 *   FAKE_IBV_DMA_BUF           1: ibv_alloc_buf() allocates a dma-buf (here, a memfd), whose
 *                              registration is counted, and races with nothing
 *   FAKE_IBV_MAX_MR            regions that fit, 1 to 65536 (default 65536)
 *   FAKE_IBV_ERRNO_ON_SUCCESS  the errno that a successful call leaves (default:
 *                              unchanged)
 *
 * Built in several ways: plain, like Debian's; with -Bsymbolic-functions, like
 * Ubuntu's, where the library's calls to itself cannot be interposed; with
 * FAKE_IBV_WITHOUT_IOVA2, like rdma-core 25; and plain with another soname and
 * FAKE_IBV_COPY=1, like the copies in wheels: the keys of its regions have
 * FAKE_IBV_COPY in their highest half byte. A copy ends the process when it gets a
 * context of another copy. With FAKE_IBV_ENGINE, it also has engine.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* This file defines the functions behind the header's macros. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#ifndef FAKE_IBV_COPY
#define FAKE_IBV_COPY 0u
#endif

#define MAX_DEVICES 64
#define MAX_REGIONS 65536

struct open_device {
	/*
	 * Before the public part, as in the real library: code that is handed a
	 * context of another ABI finds no pointer here, and crashes likewise.
	 */
	struct device *device;
	struct ibv_context context;
};

struct device {
	struct ibv_device device;
	unsigned int index;
	atomic_uint protection_domains;
};

struct protection_domain {
	struct ibv_pd pd;
	atomic_uint regions;
};

static struct {
	unsigned int devices;
	unsigned int hold_us;
	enum { COUNT, KILL, KILL_ON_GPU } race;
	bool makes_requests;
	bool has_dma_bufs;
	const char *witness;
	unsigned int max_mr;
	int errno_on_success; /* 0: leave errno alone */
	bool can_populate;    /* the kernel knows MADV_POPULATE_* (5.14) */
	uintptr_t page;
	pid_t pid;
} settings;

static struct device devices[MAX_DEVICES];

static struct device *device_of(struct ibv_context *context)
{
	struct device *device =
		((struct open_device *)((char *)context - offsetof(struct open_device, context)))
			->device;

	if (device < devices || device >= devices + MAX_DEVICES) {
		dprintf(2, "fake libibverbs: copy %u was handed a context of another copy or ABI\n",
			FAKE_IBV_COPY);
		abort();
	}
	return device;
}

/* ---- Settings ---- */

static unsigned int number(const char *name, unsigned int otherwise, unsigned long most)
{
	const char *text = getenv(name);
	if (!text)
		return otherwise;
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value > most) {
		/* A test with a mistyped setting must not pass. */
		dprintf(2, "fake libibverbs: %s=%s: not a number from 0 to %lu\n", name, text, most);
		_exit(2);
	}
	return value;
}

static void after_fork(void);
static void share_kernel(const char *file);

__attribute__((constructor)) static void load(void)
{
	int saved = errno;
	settings.devices = number("FAKE_IBV_DEVICES", 4, MAX_DEVICES);
	settings.hold_us = number("FAKE_IBV_HOLD_US", 200, 3600u * 1000 * 1000);
	settings.max_mr = number("FAKE_IBV_MAX_MR", MAX_REGIONS, MAX_REGIONS);
	if (settings.max_mr == 0)
		settings.max_mr = 1;
	settings.errno_on_success = (int)number("FAKE_IBV_ERRNO_ON_SUCCESS", 0, 1u << 30);
	settings.witness = getenv("FAKE_IBV_WITNESS");
	settings.page = (uintptr_t)sysconf(_SC_PAGESIZE);
	settings.pid = getpid();

	const char *race = getenv("FAKE_IBV_RACE");
	if (!race || !strcmp(race, "die"))
		settings.race = KILL;
	else if (!strcmp(race, "device"))
		settings.race = KILL_ON_GPU;
	else if (strcmp(race, "count")) {
		dprintf(2, "fake libibverbs: FAKE_IBV_RACE=%s: not die, device or count\n", race);
		_exit(2);
	}
	settings.makes_requests = number("FAKE_IBV_IOCTL", 0, 1);
	settings.has_dma_bufs = number("FAKE_IBV_DMA_BUF", 0, 1);

	uintptr_t here = (uintptr_t)&settings & -settings.page;
	settings.can_populate = !madvise((void *)here, settings.page, MADV_POPULATE_WRITE);
	if (settings.race == KILL_ON_GPU && !settings.can_populate) {
		dprintf(2, "fake libibverbs: FAKE_IBV_RACE=device: needs Linux 5.14\n");
		_exit(2);
	}

	for (unsigned int i = 0; i < settings.devices; i++) {
		struct ibv_device *d = &devices[i].device;
		devices[i].index = i;
		d->node_type = IBV_NODE_CA;
		d->transport_type = IBV_TRANSPORT_IB;
		snprintf(d->name, sizeof d->name, "mlx5_%u", i);
		snprintf(d->dev_name, sizeof d->dev_name, "uverbs%u", i);
		snprintf(d->dev_path, sizeof d->dev_path, "/sys/class/infiniband_verbs/uverbs%u", i);
		snprintf(d->ibdev_path, sizeof d->ibdev_path, "/sys/class/infiniband/mlx5_%u", i);
	}
	const char *shared = getenv("FAKE_IBV_KERNEL");
	if (shared)
		share_kernel(shared);
	pthread_atfork(NULL, NULL, after_fork);
	errno = saved;
}

/* ---- The race detector ---- */

enum function { REG_MR, REG_MR_IOVA, REG_MR_IOVA2, REG_MR_EX, REG_DMA_BUF, REREG_MR, DEREG_MR, GPU_FREE };

static const char *const function_names[] = {
	"ibv_reg_mr",	 "ibv_reg_mr_iova", "ibv_reg_mr_iova2", "ibv_reg_mr_ex", "ibv_reg_mr_ex (dma-buf)",
	"ibv_rereg_mr", "ibv_dereg_mr",    "fake_gpu_free",
};

enum { REGISTRATIONS, DEREGISTRATIONS, TOGETHER, FREES, KINDS };

struct kernel {
	/*
	 * The thread that is inside: its id, the device and the function in one word,
	 * so that one compare-and-swap detects a collision and finds the other thread.
	 * Zero: no thread. Used where a race kills.
	 */
	_Atomic uint64_t occupant;
	_Atomic uint64_t last_free; /* the same of the thread that began a free last */
	/*
	 * Changed first and last in every call, and not atomic: a lock that serializes
	 * calls must also order their memory accesses. ThreadSanitizer checks that.
	 */
	unsigned long visits;
	struct {
		atomic_ulong calls, inside, peak;
	} counts[KINDS];
};

static struct kernel own_kernel, *kernel = &own_kernel;

static void share_kernel(const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	kernel = fd < 0 || ftruncate(fd, sizeof *kernel)
			 ? MAP_FAILED
			 : mmap(NULL, sizeof *kernel, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (kernel == MAP_FAILED) {
		dprintf(2, "fake libibverbs: FAKE_IBV_KERNEL: %s: %s\n", file, strerror(errno));
		_exit(2);
	}
	close(fd);
}

/* Initial-exec: the first use does not allocate, so it is safe in a signal handler. */
#define THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
THREAD_LOCAL uint64_t visit;     /* the value that this thread writes to `occupant` */
THREAD_LOCAL unsigned int depth; /* how many nested calls it is inside */

static uint64_t visit_word(enum function function, unsigned int device)
{
	return (uint64_t)syscall(SYS_gettid) << 32 | device << 8 | function;
}

static unsigned int visit_thread(uint64_t v) { return v >> 32; }
static const char *visit_device(uint64_t v) { return devices[(v & 0xffffffff) >> 8].device.name; }
static const char *visit_function(uint64_t v) { return function_names[v & 0xff]; }
static int visit_kind(uint64_t v)
{
	return (v & 0xff) == DEREG_MR ? DEREGISTRATIONS : REGISTRATIONS;
}

static void collide(uint64_t second, uint64_t first)
{
	static atomic_flag told = ATOMIC_FLAG_INIT; /* several threads may collide at once: print one line */
	char line[256];
	int length = snprintf(line, sizeof line,
			      "fake libibverbs: race: %s on %s (thread %u) came in while %s on %s (thread %u) "
			      "was inside; the process dies\n",
			      visit_function(second), visit_device(second), visit_thread(second),
			      visit_function(first), visit_device(first), visit_thread(first));
	if (!atomic_flag_test_and_set(&told) && write(2, line, (size_t)length) < 0) {
		/* The line is lost; the process dies all the same. */
	}
	/* Volatile: the compiler must neither drop the store nor make a trap of it. */
	volatile int *volatile nowhere = (volatile int *)16;
	for (;;)
		*nowhere = 0;
}

static void count_in(int kind)
{
	atomic_fetch_add(&kernel->counts[kind].calls, 1);
	unsigned long now = atomic_fetch_add(&kernel->counts[kind].inside, 1) + 1;
	unsigned long peak = atomic_load(&kernel->counts[kind].peak);
	while (peak < now && !atomic_compare_exchange_weak(&kernel->counts[kind].peak, &peak, now))
		;
}

/* Whether the kernel would call nvidia-peermem: memory is mapped there that allows no access. */
static bool is_gpu(const void *addr, size_t length)
{
	uintptr_t from = (uintptr_t)addr & -settings.page;
	uintptr_t end = (uintptr_t)addr + length;
	uintptr_t to = (end + settings.page - 1) & -settings.page;

	return end >= (uintptr_t)addr && to > from &&
	       madvise((void *)from, to - from, MADV_POPULATE_READ) && errno == EINVAL;
}

/* The request by which the real library reaches the kernel for this call. */
static void make_request(enum function function, const void *addr, size_t length, unsigned int access)
{
	struct ib_uverbs_reg_mr registration = {
		.start = (uintptr_t)addr, .length = length, .access_flags = access};
	struct ib_uverbs_dereg_mr deregistration = {0};
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attributes[2];
	} request = {
		.header = {.length = sizeof request,
			   .object_id = UVERBS_OBJECT_DEVICE,
			   .method_id = UVERBS_METHOD_INVOKE_WRITE,
			   .num_attrs = 2},
		.attributes = {{.attr_id = UVERBS_ATTR_CORE_IN}, {.attr_id = UVERBS_ATTR_WRITE_CMD, .len = 4}},
	};
	if (function == DEREG_MR) {
		request.attributes[0].len = sizeof deregistration;
		request.attributes[0].data = (uintptr_t)&deregistration;
		request.attributes[1].data = IB_USER_VERBS_CMD_DEREG_MR;
	} else {
		request.attributes[0].len = sizeof registration;
		request.attributes[0].data = (uintptr_t)&registration;
		request.attributes[1].data = IB_USER_VERBS_CMD_REG_MR;
	}
	ioctl(-1, RDMA_VERBS_IOCTL, &request);
}

static void enter(enum function function, struct ibv_context *context, const void *addr, size_t length,
		  unsigned int access)
{
	unsigned int device = device_of(context)->index;
	bool kills = function != REG_DMA_BUF &&
		     (settings.race == KILL || (settings.race == KILL_ON_GPU && is_gpu(addr, length)));

	/* ibv_reg_mr_ex() makes its request itself. */
	if (settings.makes_requests && function != REG_MR_EX && function != REG_DMA_BUF)
		make_request(function, addr, length, access);

	if (depth++)
		return;
	kernel->visits++;
	visit = visit_word(function, device);
	if (kills) {
		uint64_t first = 0;
		while (!atomic_compare_exchange_strong(&kernel->occupant, &first, visit)) {
			/* A thread that ended inside its call is not inside, although its value is still there. */
			if (first && !syscall(SYS_tgkill, getpid(), visit_thread(first), 0))
				collide(visit, first);
		}
		if (atomic_load(&kernel->counts[FREES].inside))
			collide(visit, atomic_load(&kernel->last_free));
	}
	count_in(visit_kind(visit));
	count_in(TOGETHER);
}

static void leave(void)
{
	if (depth == 1) {
		atomic_fetch_sub(&kernel->counts[TOGETHER].inside, 1);
		atomic_fetch_sub(&kernel->counts[visit_kind(visit)].inside, 1);
		/* A call on host memory may leave while one on GPU memory is inside. */
		uint64_t mine = visit;
		atomic_compare_exchange_strong(&kernel->occupant, &mine, 0);
		kernel->visits++;
	}
	/* This comes last: a handler that interrupts this function and enters counts as the same thread. */
	atomic_signal_fence(memory_order_seq_cst);
	depth--;
}

/* The child has only the thread that forked. */
static void after_fork(void)
{
	memset(kernel->counts, 0, sizeof kernel->counts);
	atomic_store(&kernel->occupant, 0);
	if (depth) {
		visit = visit_word(visit & 0xff, (visit & 0xffffffff) >> 8);
		count_in(visit_kind(visit));
		count_in(TOGETHER);
		atomic_store(&kernel->occupant, visit);
	}
}

__attribute__((destructor)) static void unload(void)
{
	if (!settings.witness)
		return;
	char path[4096];
	if (getpid() == settings.pid)
		snprintf(path, sizeof path, "%s", settings.witness);
	else
		snprintf(path, sizeof path, "%s.%d", settings.witness, (int)getpid());
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		dprintf(2, "fake libibverbs: FAKE_IBV_WITNESS: %s: %s\n", path, strerror(errno));
		return;
	}
	dprintf(fd, "registrations %lu peak %lu\nderegistrations %lu peak %lu\ntogether peak %lu\n",
		kernel->counts[REGISTRATIONS].calls, kernel->counts[REGISTRATIONS].peak,
		kernel->counts[DEREGISTRATIONS].calls, kernel->counts[DEREGISTRATIONS].peak,
		kernel->counts[TOGETHER].peak);
	close(fd);
}

/* Takes as long as a registration on a real machine. */
static void hold(void)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += settings.hold_us % 1000000 * 1000;
	end.tv_sec += settings.hold_us / 1000000 + end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	if (settings.hold_us >= 1000) {
		/* libc's wrapper is a cancellation point; the real library's ioctl is not. */
		while (syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) < 0 &&
		       errno == EINTR)
			;
		return;
	}
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
}

/* ---- Devices, contexts, protection domains ---- */

/* A function that also exists in version 1.0 has a C name of its own, which this exports under the public name. */
#define CURRENT(function, name) __asm__(".symver " #function ", " #name "@@IBVERBS_1.1")
#define COMPAT(function, name) __asm__(".symver " #function ", " #name "@IBVERBS_1.0")
#define EXPORT __attribute__((visibility("default"), used))

/* Frees may overlap each other: the NVIDIA driver has a lock of its own. */
EXPORT void fake_gpu_free(void)
{
	uint64_t mine = visit_word(GPU_FREE, 0);

	atomic_store(&kernel->last_free, mine);
	count_in(FREES);
	uint64_t inside = atomic_load(&kernel->occupant);
	if (inside)
		collide(mine, inside);
	hold();
	atomic_fetch_sub(&kernel->counts[FREES].inside, 1);
}

EXPORT struct ibv_device **get_device_list_1_1(int *num_devices)
{
	struct ibv_device **list = calloc(settings.devices + 1, sizeof *list);
	if (!list)
		return NULL;
	for (unsigned int i = 0; i < settings.devices; i++)
		list[i] = &devices[i].device;
	if (num_devices)
		*num_devices = (int)settings.devices;
	return list;
}
CURRENT(get_device_list_1_1, ibv_get_device_list);

EXPORT void free_device_list_1_1(struct ibv_device **list) { free(list); }
CURRENT(free_device_list_1_1, ibv_free_device_list);

EXPORT const char *get_device_name_1_1(struct ibv_device *device) { return device->name; }
CURRENT(get_device_name_1_1, ibv_get_device_name);

/* No completion queues, and so no completions. */
static int poll_cq(struct ibv_cq *cq, int num_entries, struct ibv_wc *wc)
{
	(void)cq, (void)num_entries, (void)wc;
	return 0;
}

EXPORT struct ibv_context *open_device_1_1(struct ibv_device *device)
{
	struct open_device *open = calloc(1, sizeof *open);
	if (!open)
		return NULL;
	open->device = (struct device *)device;
	open->context.device = device;
	open->context.ops.poll_cq = poll_cq;
	open->context.cmd_fd = -1;
#ifdef FAKE_IBV_ENGINE
	open->context.async_fd = eventfd(0, EFD_CLOEXEC); /* no event ever comes */
#else
	open->context.async_fd = -1;
#endif
	open->context.num_comp_vectors = 1;
	pthread_mutex_init(&open->context.mutex, NULL);
	return &open->context;
}
CURRENT(open_device_1_1, ibv_open_device);

EXPORT int close_device_1_1(struct ibv_context *context)
{
	pthread_mutex_destroy(&context->mutex);
	if (context->async_fd >= 0)
		close(context->async_fd);
	free((char *)context - offsetof(struct open_device, context));
	return 0;
}
CURRENT(close_device_1_1, ibv_close_device);

EXPORT struct ibv_pd *alloc_pd_1_1(struct ibv_context *context)
{
	struct protection_domain *domain = calloc(1, sizeof *domain);
	if (!domain)
		return NULL;
	domain->pd.context = context;
	domain->pd.handle = atomic_fetch_add(&device_of(context)->protection_domains, 1);
	return &domain->pd;
}
CURRENT(alloc_pd_1_1, ibv_alloc_pd);

EXPORT int dealloc_pd_1_1(struct ibv_pd *pd)
{
	struct protection_domain *domain = (struct protection_domain *)pd;
	if (atomic_load(&domain->regions))
		return errno = EBUSY;
	free(domain);
	return 0;
}
CURRENT(dealloc_pd_1_1, ibv_dealloc_pd);

/* ---- Memory regions ---- */

/* Live regions; a handle is an index. There is no lock, because a fork could copy it while it is held. */
static struct ibv_mr *_Atomic regions[MAX_REGIONS];
static atomic_ulong next_region;

static bool remember(struct ibv_mr *mr)
{
	unsigned long ticket = atomic_fetch_add(&next_region, 1);
	for (unsigned long i = 0; i < settings.max_mr; i++) {
		uint32_t handle = (ticket + i) % settings.max_mr;
		struct ibv_mr *none = NULL;
		if (atomic_load(&regions[handle]) ||
		    !atomic_compare_exchange_strong(&regions[handle], &none, mr))
			continue;
		mr->handle = handle;
		/* Unique among live regions, and different when the handle is reused. */
		mr->lkey = mr->rkey = FAKE_IBV_COPY << 28 | (handle + 1) << 8 |
				      (ticket / settings.max_mr & 0xff);
		return true;
	}
	return false;
}

static bool known(struct ibv_mr *mr)
{
	return mr->handle < MAX_REGIONS && atomic_load(&regions[mr->handle]) == mr;
}

static bool forget(struct ibv_mr *mr)
{
	struct ibv_mr *expected = mr;
	return mr->handle < MAX_REGIONS &&
	       atomic_compare_exchange_strong(&regions[mr->handle], &expected, NULL);
}

static struct protection_domain *domain_of(struct ibv_pd *pd)
{
	return (struct protection_domain *)pd;
}

/* The kernel's rules (ib_check_mr_access): 0 or an error number. */
static int check_access(unsigned int access)
{
	const unsigned int remote_writes = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;

	if (access & ~(0xffu | IBV_ACCESS_OPTIONAL_RANGE))
		return EINVAL;
	return (access & remote_writes) && !(access & IBV_ACCESS_LOCAL_WRITE) ? EINVAL : 0;
}

/*
 * Populates all pages of a range, as pinning does, without writing to them. Returns
 * 0, or the error number of the kernel's ib_umem_get for such a range. Memory that is
 * mapped without any permission counts as GPU memory: nvidia-peermem pins it.
 */
static int pin(void *addr, size_t length, unsigned int access)
{
	const unsigned int writes = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
				    IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND;
	/* On demand: nothing is pinned. */
	if (access & IBV_ACCESS_ON_DEMAND)
		return 0;
	uintptr_t from = (uintptr_t)addr & -settings.page;
	uintptr_t end = (uintptr_t)addr + length;
	uintptr_t to = (end + settings.page - 1) & -settings.page;

	if (end < (uintptr_t)addr || to < end || to == from)
		return EINVAL;
	int advice = access & writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
	/* Also where the kernel knows no such advice: a client may replace madvise(). */
	if (!madvise((void *)from, to - from, advice))
		return 0;
	if (settings.can_populate)
		return is_gpu(addr, length) ? 0 : EFAULT;
	/* Older kernels, and gVisor: check at least that memory is mapped there. */
	while (from < to) {
		unsigned char resident[1024];
		size_t part = sizeof resident * settings.page;
		if (part > to - from)
			part = to - from;
		if (mincore((void *)from, part, resident))
			return EFAULT;
		from += part;
	}
	return 0;
}

static void succeed(int saved_errno)
{
	errno = settings.errno_on_success ? settings.errno_on_success : saved_errno;
}

static struct ibv_mr *register_region(enum function function, struct ibv_pd *pd, void *addr,
				      size_t length, unsigned int access)
{
	int saved = errno;
	struct ibv_context *context = pd->context;
	struct ibv_mr *mr = NULL;

	enter(function, context, addr, length, access);
	int error = check_access(access);
	if (!error && function != REG_DMA_BUF)
		error = pin(addr, length, access);
	if (!error) {
		hold();
		mr = calloc(1, sizeof *mr);
		if (!mr || !remember(mr))
			error = ENOMEM;
	}
	leave();
	if (error) {
		free(mr);
		errno = error;
		return NULL;
	}
	mr->context = context;
	mr->pd = pd;
	mr->addr = addr;
	mr->length = length;
	atomic_fetch_add(&domain_of(pd)->regions, 1);
	succeed(saved);
	return mr;
}

#ifdef FAKE_IBV_WITHOUT_IOVA2

EXPORT struct ibv_mr *reg_mr_1_1(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return register_region(REG_MR, pd, addr, length, (unsigned int)access);
}

EXPORT struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length,
				      uint64_t iova, int access)
{
	(void)iova; /* the address for the remote side: not used here */
	return register_region(REG_MR_IOVA, pd, addr, length, (unsigned int)access);
}

#else

/* Both call ibv_reg_mr_iova2 by its public name, through the PLT, where it can be interposed. */
EXPORT struct ibv_mr *reg_mr_1_1(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, (unsigned int)access);
}

EXPORT struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length,
				      uint64_t iova, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, iova, (unsigned int)access);
}

EXPORT struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length,
				       uint64_t iova, unsigned int access)
{
	(void)iova; /* the address for the remote side: not used here */
	return register_region(REG_MR_IOVA2, pd, addr, length, access);
}

/* ---- Buffers ---- */

/* The layout of rdma-core 65. */
struct ibv_buf {
	void *addr;
	size_t size;
	struct ibv_pd *pd;
	int dmabuf_fd; /* -1: ordinary memory */
};

EXPORT void *ibv_alloc_buf(struct ibv_pd *pd, size_t size, struct ibv_buf **made)
{
	struct ibv_buf *buf = malloc(sizeof *buf);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (!buf)
		return NULL;
	*buf = (struct ibv_buf){.size = size, .pd = pd, .dmabuf_fd = -1};
	if (settings.has_dma_bufs) {
		buf->dmabuf_fd = (int)syscall(SYS_memfd_create, "dma-buf", 1u /* MFD_CLOEXEC */);
		if (buf->dmabuf_fd < 0 || ftruncate(buf->dmabuf_fd, (off_t)size))
			goto failed;
		flags = MAP_SHARED;
	}
	buf->addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, buf->dmabuf_fd, 0);
	if (buf->addr != MAP_FAILED) {
		*made = buf;
		return buf->addr;
	}
failed:
	if (buf->dmabuf_fd >= 0)
		close(buf->dmabuf_fd);
	free(buf);
	return NULL;
}

EXPORT void ibv_free_buf(struct ibv_buf *buf)
{
	munmap(buf->addr, buf->size);
	if (buf->dmabuf_fd >= 0)
		close(buf->dmabuf_fd);
	free(buf);
}

/* The request of ibv_reg_mr_ex() for mlx5, since Linux 6.17. Its numbers are not in the headers of older kernels. */
static void make_reg_mr_request(const struct ibv_mr_init_attr *attributes)
{
	enum { ADDR = 4, LENGTH = 5, ACCESS_FLAGS = 6, FD = 7, FD_OFFSET = 8, METHOD_REG_MR = 5 };
	bool is_dma_buf = attributes->comp_mask & IBV_REG_MR_MASK_FD;
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attributes[4];
	} request = {
		.header = {.length = sizeof request,
			   .object_id = UVERBS_OBJECT_MR,
			   .method_id = METHOD_REG_MR,
			   .num_attrs = 4},
		.attributes = {{.attr_id = is_dma_buf ? FD_OFFSET : ADDR,
				.len = 8,
				.data = is_dma_buf ? attributes->fd_offset : (uintptr_t)attributes->addr},
			       {.attr_id = LENGTH, .len = 8, .data = attributes->length},
			       {.attr_id = ACCESS_FLAGS, .len = 4, .data = (unsigned int)attributes->access},
			       {.attr_id = FD, .data = (unsigned int)attributes->fd}},
	};
	if (!is_dma_buf) {
		request.header.num_attrs = 3;
		request.header.length -= sizeof request.attributes[3];
	}
	ioctl(-1, RDMA_VERBS_IOCTL, &request);
}

EXPORT struct ibv_mr *ibv_reg_mr_ex(struct ibv_pd *pd, struct ibv_mr_init_attr *caller_s)
{
	struct ibv_mr_init_attr attributes = *caller_s;
	const struct ibv_buf *buf = attributes.comp_mask & IBV_REG_MR_MASK_BUF ? attributes.buf : NULL;

	if (buf) {
		size_t offset = (uintptr_t)attributes.addr - (uintptr_t)buf->addr;
		if (attributes.comp_mask != (IBV_REG_MR_MASK_BUF | IBV_REG_MR_MASK_ADDR) || buf->pd != pd ||
		    offset > buf->size || attributes.length > buf->size - offset) {
			errno = EINVAL;
			return NULL;
		}
		attributes.comp_mask = IBV_REG_MR_MASK_ADDR;
		if (buf->dmabuf_fd != -1) {
			attributes.comp_mask =
				IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_FD_OFFSET | IBV_REG_MR_MASK_IOVA;
			attributes.fd = buf->dmabuf_fd;
			attributes.fd_offset = offset;
		}
	}
	/* A dma-buf with its offset, or an address. */
	bool is_dma_buf = attributes.comp_mask & IBV_REG_MR_MASK_FD;
	uint64_t needed = is_dma_buf ? IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_FD_OFFSET | IBV_REG_MR_MASK_IOVA
				     : IBV_REG_MR_MASK_ADDR;
	if ((attributes.comp_mask | IBV_REG_MR_MASK_IOVA) != (needed | IBV_REG_MR_MASK_IOVA)) {
		errno = EINVAL;
		return NULL;
	}
	if (settings.makes_requests)
		make_reg_mr_request(&attributes);
	return register_region(is_dma_buf ? REG_DMA_BUF : REG_MR_EX, pd,
			       is_dma_buf ? (void *)(uintptr_t)attributes.fd_offset : attributes.addr,
			       attributes.length, (unsigned int)attributes.access);
}

/* Calls ibv_reg_mr_ex() by its public name, through the PLT. */
EXPORT struct ibv_mr *ibv_reg_buf_mr(struct ibv_pd *pd, struct ibv_buf *buf, void *addr, size_t length,
				     int access)
{
	struct ibv_mr_init_attr attributes = {
		.length = length,
		.access = access,
		.comp_mask = IBV_REG_MR_MASK_BUF | IBV_REG_MR_MASK_ADDR,
		.addr = addr,
		.buf = buf,
	};

	return ibv_reg_mr_ex(pd, &attributes);
}

#endif
CURRENT(reg_mr_1_1, ibv_reg_mr);

EXPORT int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
			int access)
{
	int saved = errno;

	device_of(mr->context);
	if ((flags & ~IBV_REREG_MR_FLAGS_SUPPORTED) ||
	    ((flags & IBV_REREG_MR_CHANGE_TRANSLATION) && (!length || !addr)) ||
	    (access && !(flags & IBV_REREG_MR_CHANGE_ACCESS))) {
		errno = EINVAL;
		return IBV_REREG_MR_ERR_INPUT;
	}
	if (!known(mr)) {
		errno = EINVAL;
		return IBV_REREG_MR_ERR_CMD;
	}
	/* GPU memory, if the old memory or the new is. */
	bool is_new = (flags & IBV_REREG_MR_CHANGE_TRANSLATION) && is_gpu(addr, length);
	enter(REREG_MR, mr->context, is_new ? addr : mr->addr, is_new ? length : mr->length, 0);
	int error = check_access((unsigned int)access);
	if (!error && (flags & IBV_REREG_MR_CHANGE_TRANSLATION))
		error = pin(addr, length, (unsigned int)access);
	if (!error)
		hold();
	leave();
	if (error) {
		errno = error;
		return IBV_REREG_MR_ERR_CMD;
	}
	if (flags & IBV_REREG_MR_CHANGE_PD) {
		atomic_fetch_add(&domain_of(pd)->regions, 1);
		atomic_fetch_sub(&domain_of(mr->pd)->regions, 1);
		mr->pd = pd;
	}
	if (flags & IBV_REREG_MR_CHANGE_TRANSLATION) {
		mr->addr = addr;
		mr->length = length;
	}
	succeed(saved);
	return 0;
}

EXPORT int dereg_mr_1_1(struct ibv_mr *mr)
{
	int saved = errno;

	device_of(mr->context);
	if (!forget(mr))
		return errno = EINVAL;
	enter(DEREG_MR, mr->context, mr->addr, mr->length, 0);
	hold();
	leave();
	atomic_fetch_sub(&domain_of(mr->pd)->regions, 1);
	free(mr);
	succeed(saved);
	return 0;
}
CURRENT(dereg_mr_1_1, ibv_dereg_mr);

/* ---- The 1.0 ABI: structures of 2006 around today's objects ---- */

struct device_1_0 {
	void *obsolete[2];
	struct ibv_device *real_device;
	struct _ibv_device_ops ops;
};

struct context_1_0 {
	struct device_1_0 *device;
	void (*ops[27])(void);
	int cmd_fd;
	int async_fd;
	int num_comp_vectors;
	struct ibv_context *real_context;
};

struct pd_1_0 {
	struct context_1_0 *context;
	uint32_t handle;
	struct ibv_pd *real_pd;
};

struct mr_1_0 {
	struct context_1_0 *context;
	struct pd_1_0 *pd;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
	struct ibv_mr *real_mr;
};

/* The returned list has one entry before its first: the real list, which has to be freed with it. */
EXPORT struct device_1_0 **get_device_list_1_0(int *num_devices)
{
	int n;
	struct ibv_device **real = ibv_get_device_list(&n);
	if (!real)
		return NULL;
	struct device_1_0 **list = calloc((size_t)n + 2, sizeof *list);
	struct device_1_0 *all = calloc((size_t)n + 1, sizeof *all);
	if (!list || !all) {
		free(list);
		free(all);
		ibv_free_device_list(real);
		return NULL;
	}
	list[0] = (struct device_1_0 *)real;
	for (int i = 0; i < n; i++) {
		all[i].real_device = real[i];
		list[i + 1] = &all[i]; /* never freed: an open context points to it */
	}
	if (num_devices)
		*num_devices = n;
	return list + 1;
}
COMPAT(get_device_list_1_0, ibv_get_device_list);

EXPORT void free_device_list_1_0(struct device_1_0 **list)
{
	ibv_free_device_list((struct ibv_device **)list[-1]);
	free(list - 1);
}
COMPAT(free_device_list_1_0, ibv_free_device_list);

EXPORT const char *get_device_name_1_0(struct device_1_0 *device)
{
	return ibv_get_device_name(device->real_device);
}
COMPAT(get_device_name_1_0, ibv_get_device_name);

EXPORT struct context_1_0 *open_device_1_0(struct device_1_0 *device)
{
	struct context_1_0 *context = calloc(1, sizeof *context);
	if (!context)
		return NULL;
	context->device = device;
	context->real_context = ibv_open_device(device->real_device);
	if (!context->real_context) {
		free(context);
		return NULL;
	}
	return context;
}
COMPAT(open_device_1_0, ibv_open_device);

EXPORT int close_device_1_0(struct context_1_0 *context)
{
	int error = ibv_close_device(context->real_context);
	if (!error)
		free(context);
	return error;
}
COMPAT(close_device_1_0, ibv_close_device);

EXPORT struct pd_1_0 *alloc_pd_1_0(struct context_1_0 *context)
{
	struct pd_1_0 *pd = calloc(1, sizeof *pd);
	if (!pd)
		return NULL;
	pd->context = context;
	pd->real_pd = ibv_alloc_pd(context->real_context);
	if (!pd->real_pd) {
		free(pd);
		return NULL;
	}
	pd->handle = pd->real_pd->handle;
	return pd;
}
COMPAT(alloc_pd_1_0, ibv_alloc_pd);

EXPORT int dealloc_pd_1_0(struct pd_1_0 *pd)
{
	int error = ibv_dealloc_pd(pd->real_pd);
	if (!error)
		free(pd);
	return error;
}
COMPAT(dealloc_pd_1_0, ibv_dealloc_pd);

EXPORT struct mr_1_0 *reg_mr_1_0(struct pd_1_0 *pd, void *addr, size_t length, int access)
{
	struct mr_1_0 *mr = calloc(1, sizeof *mr);
	if (!mr)
		return NULL;
#ifdef FAKE_IBV_WITHOUT_IOVA2
	struct ibv_mr *real = ibv_reg_mr(pd->real_pd, addr, length, access);
#else
	struct ibv_mr *real = ibv_reg_mr_iova2(pd->real_pd, addr, length, (uintptr_t)addr,
					       (unsigned int)access);
#endif
	if (!real) {
		free(mr);
		return NULL;
	}
	mr->context = pd->context;
	mr->pd = pd;
	mr->handle = real->handle;
	mr->lkey = real->lkey;
	mr->rkey = real->rkey;
	mr->real_mr = real;
	return mr;
}
COMPAT(reg_mr_1_0, ibv_reg_mr);

EXPORT int dereg_mr_1_0(struct mr_1_0 *mr)
{
	int error = ibv_dereg_mr(mr->real_mr);
	if (!error)
		free(mr);
	return error;
}
COMPAT(dereg_mr_1_0, ibv_dereg_mr);
