/*
 * Preloaded behind mrlock, in front of libibverbs and libc: counts registrations and
 * frees of GPU memory, and how often one began while the other was under way.
 */
#define _GNU_SOURCE
#include "witness.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ibv_pd;
struct ibv_mr;

/* _IOWR('F', 0x29, NVOS00_PARAMETERS) of the open driver's nv_escape.h and nvos.h. */
#define NV_ESC_RM_FREE 0xC0104629u

struct witness witness;

/* The numbers of both under way, in one word: of two calls that overlap, exactly one sees the other. */
static _Atomic uint64_t under_way;
#define REGISTRATION UINT64_C(1)
#define FREE (UINT64_C(1) << 32)

static __thread int depth; /* libibverbs' functions call each other */

static void begin(uint64_t one, uint64_t other, atomic_ulong *calls)
{
	if (depth++)
		return;
	atomic_fetch_add(calls, 1);
	if (atomic_fetch_add(&under_way, one) / other % FREE)
		atomic_fetch_add(&witness.meetings, 1);
}

static void end(uint64_t one)
{
	if (--depth == 0)
		atomic_fetch_sub(&under_way, one);
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct ibv_mr *(*next)(struct ibv_pd *, void *, size_t, int) =
		dlsym(RTLD_NEXT, "ibv_reg_mr");
	begin(REGISTRATION, FREE, &witness.registrations);
	struct ibv_mr *mr = next(pd, addr, length, access);
	end(REGISTRATION);
	return mr;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access)
{
	struct ibv_mr *(*next)(struct ibv_pd *, void *, size_t, uint64_t, unsigned int) =
		dlsym(RTLD_NEXT, "ibv_reg_mr_iova2");
	begin(REGISTRATION, FREE, &witness.registrations);
	struct ibv_mr *mr = next(pd, addr, length, iova, access);
	end(REGISTRATION);
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	int (*next)(struct ibv_mr *) = dlsym(RTLD_NEXT, "ibv_dereg_mr");
	begin(REGISTRATION, FREE, &witness.registrations);
	int error = next(mr);
	end(REGISTRATION);
	return error;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	if ((uint32_t)request != NV_ESC_RM_FREE)
		return (int)syscall(SYS_ioctl, fd, request, argument);
	begin(FREE, REGISTRATION, &witness.frees);
	int result = (int)syscall(SYS_ioctl, fd, request, argument);
	end(FREE);
	return result;
}
