/*
 * Registers memory on every device through every entry point and checks all that comes back: each field of the
 * struct ibv_mr, errno of a bad address, the status of a deregistration. Then all devices at once, a thread each.
 *
 *   mr_check              the checks, then the threads
 *   mr_check concurrent   the threads alone
 *
 * One line per check on stdout, nothing in it that differs from run to run. Exit status 1 if any check failed.
 *
 * With MR_CHECK_ABI_1_0 defined (mr_check_1_0.c) every call is made as a program linked in 2006 makes it: to the
 * functions of version IBVERBS_1.0, which have other structures.
 */
#include <infiniband/verbs.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* verbs.h turns these two into inline functions that choose an entry point themselves; this program calls the real ones. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define LENGTH ((size_t)4 << 20)
#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)
#define DEVICES 16
#define ROUNDS 25

#ifdef MR_CHECK_ABI_1_0
#define OF_1_0(function) __asm__(".symver " #function ", " #function "@IBVERBS_1.0")
OF_1_0(ibv_get_device_list);
OF_1_0(ibv_free_device_list);
OF_1_0(ibv_get_device_name);
OF_1_0(ibv_open_device);
OF_1_0(ibv_close_device);
OF_1_0(ibv_alloc_pd);
OF_1_0(ibv_dealloc_pd);
OF_1_0(ibv_reg_mr);
OF_1_0(ibv_dereg_mr);

/* A memory region of that time. The other structures are only passed through, so today's names serve for them. */
struct region {
    struct ibv_context *context;
    struct ibv_pd *pd;
    uint32_t handle; /* never filled in */
    uint32_t lkey;
    uint32_t rkey;
    struct ibv_mr *real;
};
#else
#define region ibv_mr
#endif

static int failures;

static void check(bool good, const char *device, const char *entry, const char *what)
{
    printf("%s %s: %s: %s\n", device, entry, what, good ? "ok" : "FAILED");
    if (!good)
        failures++;
}

static void *buffer(void)
{
    void *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

/* An address where nothing is mapped. */
static void *hole(void)
{
    void *memory = buffer();
    munmap(memory, LENGTH);
    return memory;
}

typedef struct region *register_function(struct ibv_pd *, void *);

static struct region *by_reg_mr(struct ibv_pd *pd, void *memory)
{
    return (struct region *)ibv_reg_mr(pd, memory, LENGTH, ACCESS);
}

static int deregister(struct region *mr)
{
    return ibv_dereg_mr((struct ibv_mr *)mr);
}

#ifndef MR_CHECK_ABI_1_0
static struct region *by_reg_mr_iova(struct ibv_pd *pd, void *memory)
{
    return ibv_reg_mr_iova(pd, memory, LENGTH, (uintptr_t)memory, ACCESS);
}

static struct region *by_reg_mr_iova2(struct ibv_pd *pd, void *memory)
{
    return ibv_reg_mr_iova2(pd, memory, LENGTH, (uintptr_t)memory, ACCESS);
}

/* Soft-RoCE cannot re-register: the answer must be the same with and without the library. */
static void check_rereg(const char *device, struct ibv_pd *pd, void *memory)
{
    struct ibv_mr *mr = ibv_reg_mr(pd, memory, LENGTH, ACCESS);

    if (!mr)
        return check(false, device, "ibv_rereg_mr", "registers first");
    errno = 0;
    int status = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, IBV_ACCESS_LOCAL_WRITE);
    int error = errno;
    printf("%s ibv_rereg_mr: returns %d, errno %d\n", device, status, error);
    check(status == 0 || error == EOPNOTSUPP || error == ENOSYS, device, "ibv_rereg_mr", "done, or not supported");
    check(ibv_dereg_mr(mr) == 0, device, "ibv_rereg_mr", "deregisters");
}
#endif

static const struct {
    const char *name;
    register_function *call;
} entries[] = {
    {"ibv_reg_mr", by_reg_mr},
#ifndef MR_CHECK_ABI_1_0
    {"ibv_reg_mr_iova", by_reg_mr_iova},
    {"ibv_reg_mr_iova2", by_reg_mr_iova2},
#endif
};

static void check_entry(const char *device, const char *name, register_function *call, struct ibv_context *context,
                        struct ibv_pd *pd, void *memory)
{
    struct region *first = call(pd, memory);
    struct region *second = call(pd, memory);

    check(first && second, device, name, "registers twice");
    if (!first || !second)
        return;
    check(first->context == context, device, name, "context");
    check(first->pd == pd, device, name, "pd");
#ifndef MR_CHECK_ABI_1_0
    check(first->addr == memory, device, name, "addr");
    check(first->length == LENGTH, device, name, "length");
    check(first->handle != second->handle, device, name, "handles differ");
#endif
    check(first->lkey != 0 && first->lkey != second->lkey, device, name, "lkeys not 0, and differ");
    check(first->rkey != 0 && first->rkey != second->rkey, device, name, "rkeys not 0, and differ");

    void *unmapped = hole();
    errno = 0;
    struct region *none = call(pd, unmapped);
    int error = errno;
    check(none == NULL && error == EFAULT, device, name, "bad address is EFAULT");

    check(deregister(first) == 0, device, name, "deregisters the first");
    check(deregister(second) == 0, device, name, "deregisters the second");
}

static pthread_barrier_t start;

/* One thread's work: returns how many rounds went well, as a pointer. */
static void *rounds(void *pd)
{
    void *memory = buffer();
    intptr_t good = 0;

    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++) {
        struct region *mr = by_reg_mr(pd, memory);
        if (mr && deregister(mr) == 0)
            good++;
    }
    munmap(memory, LENGTH);
    return (void *)good;
}

static void check_concurrent(int count, struct ibv_device **devices, struct ibv_pd **pds)
{
    pthread_t threads[DEVICES];

    pthread_barrier_init(&start, NULL, count);
    for (int i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, rounds, pds[i]) != 0) {
            fputs("pthread_create failed\n", stderr);
            exit(2);
        }
    }
    for (int i = 0; i < count; i++) {
        void *good;
        pthread_join(threads[i], &good);
        check((intptr_t)good == ROUNDS, ibv_get_device_name(devices[i]), "all devices at once", "every round");
    }
}

int main(int argc, char **argv)
{
    bool alone = argc > 1 && strcmp(argv[1], "concurrent") == 0;
    struct ibv_context *contexts[DEVICES];
    struct ibv_pd *pds[DEVICES];
    int count = 0;
    struct ibv_device **devices = ibv_get_device_list(&count);

    printf("devices: %d\n", count);
    if (!devices || count < 1 || count > DEVICES)
        return 1;
    for (int i = 0; i < count; i++) {
        contexts[i] = ibv_open_device(devices[i]);
        pds[i] = contexts[i] ? ibv_alloc_pd(contexts[i]) : NULL;
        if (!pds[i]) {
            perror(ibv_get_device_name(devices[i]));
            return 1;
        }
    }

    void *memory = buffer();
    for (int i = 0; i < count && !alone; i++) {
        const char *device = ibv_get_device_name(devices[i]);
        for (size_t entry = 0; entry < sizeof entries / sizeof entries[0]; entry++)
            check_entry(device, entries[entry].name, entries[entry].call, contexts[i], pds[i], memory);
#ifndef MR_CHECK_ABI_1_0
        check_rereg(device, pds[i], memory);
#endif
    }
    check_concurrent(count, devices, pds);

    for (int i = 0; i < count; i++) {
        const char *device = ibv_get_device_name(devices[i]);
        check(ibv_dealloc_pd(pds[i]) == 0, device, "ibv_dealloc_pd", "returns 0");
        check(ibv_close_device(contexts[i]) == 0, device, "ibv_close_device", "returns 0");
    }
    ibv_free_device_list(devices);
    printf("failed: %d\n", failures);
    return failures != 0;
}
