/*
 * ioctl_calls [late]
 *
 * Calls ioctl() from each place where a program may call it. Prints one line for each call:
 * what it returned, and errno after it. With `late`: not before the libraries'
 * constructors have run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define BEFORE 1234

struct call {
	int result, errno_after, value;
};

static int ends[2]; /* of a pipe with five bytes in it */
static struct call in_preinit, in_constructor, in_handler;

static struct call waiting_bytes(int fd)
{
	struct call call = {.value = -1};
	errno = BEFORE;
	call.result = ioctl(fd, FIONREAD, &call.value);
	call.errno_after = errno;
	return call;
}

/* Before any constructor of any library. */
static void preinit(int argc, char **argv)
{
	(void)argv;
	if (pipe(ends) || write(ends[1], "hello", 5) != 5)
		_exit(1);
	if (argc == 1)
		in_preinit = waiting_bytes(ends[0]);
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(int, char **) =
	preinit;

__attribute__((constructor)) static void constructor(void)
{
	in_constructor = waiting_bytes(ends[0]);
}

static void handler(int signal)
{
	(void)signal;
	in_handler = waiting_bytes(ends[0]);
}

static void show(const char *where, struct call call)
{
	printf("%s: %d, errno %d, value %d\n", where, call.result, call.errno_after, call.value);
}

static void show_result(const char *what, int result)
{
	int after = errno;
	printf("%s: %d, errno %d\n", what, result, after);
	errno = BEFORE;
}

/* A verbs request to a file that is no verbs device. Prints equal results that follow each other once. */
static void show_uverbs(int fd, const char *what, void *request)
{
	static struct call last;
	static const char *last_what;

	errno = BEFORE;
	struct call call = {.result = ioctl(fd, RDMA_VERBS_IOCTL, request)};
	call.errno_after = errno;
	if (what != last_what || memcmp(&call, &last, sizeof call))
		show(what, call);
	last = call;
	last_what = what;
}

int main(void)
{
	show("before the constructors", in_preinit);
	show("in a constructor", in_constructor);
	show("in main", waiting_bytes(ends[0]));
	show("a closed descriptor", waiting_bytes(-1));
	show("no such request for it", waiting_bytes(open("/dev/null", O_RDWR)));

	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	show("in a signal handler", in_handler);

	/* In the address space of the parent, which sees what the child stored. */
	static volatile struct call in_child;
	pid_t child = vfork();
	if (!child) {
		struct call call = waiting_bytes(ends[0]);
		in_child.result = call.result;
		in_child.errno_after = call.errno_after;
		in_child.value = call.value;
		_exit(0);
	}
	waitpid(child, NULL, 0);
	show("in a vfork child", *(struct call *)&in_child);

	int master, terminal;
	struct winsize set = {.ws_row = 21, .ws_col = 77}, got = {0};
	if (openpty(&master, &terminal, NULL, NULL, &set))
		return 1;
	errno = BEFORE;
	show_result("TIOCGWINSZ", ioctl(terminal, TIOCGWINSZ, &got));
	printf("%d rows, %d columns\n", got.ws_row, got.ws_col);
	show_result("no third argument", ioctl(terminal, TIOCEXCL));
	show_result("an integer for argument", ioctl(terminal, TCFLSH, TCIOFLUSH));
	show_result("a bad pointer", ioctl(terminal, TIOCGWINSZ, (void *)16));
	/* The kernel looks at 32 bits of a request, and so must the hook. */
	show_result("a request with more bits", ioctl(terminal, TIOCGWINSZ | 1ul << 40, &got));

	/* Two pages, the second unreadable; requests end at its start, or beyond. */
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE))
		return 1;
	const int files[] = {open("/dev/null", O_RDWR), ends[0], -1};
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		show_uverbs(files[i], "uverbs: NULL", NULL);
		show_uverbs(files[i], "uverbs: the last byte there is", (void *)UINTPTR_MAX);
		show_uverbs(files[i], "uverbs: the end of the user's half", (void *)0x7fffffffefff);
		show_uverbs(files[i], "uverbs: no memory there", pages + page);
		for (size_t room = 1; room <= 80; room++) {
			struct ib_uverbs_ioctl_hdr header = {.length = 24 + 2 * 16, .num_attrs = 2};
			memset(pages, 0, page);
			memcpy(pages + page - room, &header, room < sizeof header ? room : sizeof header);
			show_uverbs(files[i], "uverbs: at the end of a page", pages + page - room);
		}
		struct ib_uverbs_ioctl_hdr *header = (void *)(pages + page - sizeof *header);
		for (unsigned int length = 0; length < 65536; length += 4369) {
			*header = (struct ib_uverbs_ioctl_hdr){.length = (uint16_t)length, .num_attrs = 65535};
			show_uverbs(files[i], "uverbs: a wrong length", header);
		}
	}
	return 0;
}
