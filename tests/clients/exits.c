/*
 * exits HOW [call]
 *
 * Ends with status 7, with "call" after a request to deregister memory, which fails:
 *
 *   small-stack    in a thread whose stack has 16,384 bytes
 *   small-handler  in a signal handler on a stack of a few pages
 *   in-malloc      in a signal handler that interrupts malloc(): an allocation then waits for ever
 *   filtered       when only write(), futex() and exit_group() are allowed
 *   elsewhere      in another directory
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static volatile sig_atomic_t interrupt_malloc, interrupted;

static void allocates(void)
{
	static const char line[] = "exits: allocates while malloc() is interrupted\n";

	if (interrupted) {
		if (write(2, line, sizeof line - 1) < 0)
			_exit(2);
		_exit(1);
	}
	if (interrupt_malloc) {
		interrupted = 1;
		raise(SIGUSR1);
	}
}

void *malloc(size_t size) { return allocates(), __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return allocates(), __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return allocates(), __libc_realloc(old, size); }

static void exit_7(int signal)
{
	(void)signal;
	exit(7);
}

static void *exiting_thread(void *unused)
{
	exit_7(0);
	return unused;
}

/* Memory with a page before it that nothing can be written to. */
static char *guarded(size_t size)
{
	long page = sysconf(_SC_PAGESIZE);
	char *start =
		mmap(NULL, page + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED || mprotect(start, page, PROT_NONE)) {
		perror("exits: mmap");
		_exit(2);
	}
	return start + page;
}

static void filter(void)
{
#define ALLOW(call)                                                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1),                                 \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(write),
		ALLOW(futex),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof rules / sizeof *rules, rules};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("exits: seccomp");
		_exit(2);
	}
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct sigaction handler = {.sa_handler = exit_7, .sa_flags = SA_ONSTACK};

	if (argc > 2) {
		struct ib_uverbs_ioctl_hdr request = {
			.length = sizeof request,
			.object_id = UVERBS_OBJECT_MR,
			.method_id = UVERBS_METHOD_MR_DESTROY,
		};
		if (!ioctl(-1, RDMA_VERBS_IOCTL, &request) || errno != EBADF)
			return 2;
	}
	if (!strcmp(how, "small-stack")) {
		pthread_attr_t attributes;
		pthread_t thread;
		size_t size = 16384;

		pthread_attr_init(&attributes);
		if (pthread_attr_setstack(&attributes, guarded(size), size) ||
		    pthread_create(&thread, &attributes, exiting_thread, NULL))
			return 2;
		pthread_join(thread, NULL);
	} else if (!strcmp(how, "small-handler")) {
		/* What the kernel stores there, and 4096 bytes for the handler, in whole pages. */
		size_t page = sysconf(_SC_PAGESIZE), size = (getauxval(AT_MINSIGSTKSZ) + 4096 + page - 1) & -page;
		stack_t stack = {.ss_sp = guarded(size), .ss_size = size};

		if (sigaltstack(&stack, NULL) || sigaction(SIGUSR1, &handler, NULL))
			return 2;
		raise(SIGUSR1);
	} else if (!strcmp(how, "in-malloc")) {
		sigaction(SIGUSR1, &handler, NULL);
		interrupt_malloc = 1;
		free(malloc(100));
	} else if (!strcmp(how, "filtered")) {
		filter();
		return 7;
	} else if (!strcmp(how, "elsewhere")) {
		return chdir("/") ? 2 : 7;
	}
	fprintf(stderr, "usage: exits small-stack|small-handler|in-malloc|filtered|elsewhere [call]\n");
	return 2;
}
