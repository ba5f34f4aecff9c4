/*
 * slow_device NAME
 *
 * Makes a character device /dev/NAME whose ioctl() takes a millisecond and succeeds, whatever the
 * request. It simulates the NVIDIA driver, which takes about as long to free GPU memory.
 *
 * The kernel's module cuse passes each call on the device to this process, through /dev/cuse
 * (<linux/fuse.h>).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int kernel;

static int answer(const struct fuse_in_header *call, int error, const void *body, size_t size, const void *rest,
		  size_t rest_size)
{
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof header + size + rest_size), .error = -error, .unique = call->unique};
	struct iovec parts[] = {{&header, sizeof header}, {(void *)body, size}, {(void *)rest, rest_size}};

	return writev(kernel, parts, 3) == header.len ? 0 : -1;
}

int main(int argc, char **argv)
{
	static char request[1 << 16] __attribute__((aligned(8)));
	const struct fuse_in_header *call = (const struct fuse_in_header *)request;
	const void *arguments = call + 1;
	const struct timespec millisecond = {.tv_nsec = 1000000};
	char name[64];

	if (argc != 2)
		return 2;
	int length = snprintf(name, sizeof name, "DEVNAME=%s", argv[1]) + 1;
	kernel = open("/dev/cuse", O_RDWR);
	while (kernel >= 0 && read(kernel, request, sizeof request) > 0) {
		int failed = 0;

		if (call->opcode == CUSE_INIT) {
			struct cuse_init_out init = {.major = FUSE_KERNEL_VERSION,
						     .minor = ((const struct cuse_init_in *)arguments)->minor,
						     .max_read = 4096,
						     .max_write = 4096};
			failed = answer(call, 0, &init, sizeof init, name, (size_t)length);
		} else if (call->opcode == FUSE_OPEN) {
			struct fuse_open_out opened = {0};
			failed = answer(call, 0, &opened, sizeof opened, NULL, 0);
		} else if (call->opcode == FUSE_IOCTL) {
			const struct fuse_ioctl_in *ioctl = arguments;
			struct fuse_ioctl_out done = {0};
			nanosleep(&millisecond, NULL);
			/* The caller's structure goes back as it came. */
			failed = answer(call, 0, &done, sizeof done, ioctl + 1, ioctl->in_size);
		} else if (call->opcode == FUSE_RELEASE) {
			failed = answer(call, 0, NULL, 0, NULL, 0);
		} else if (call->opcode != FUSE_INTERRUPT) {
			failed = answer(call, ENOSYS, NULL, 0, NULL, 0);
		}
		if (failed)
			break;
	}
	perror("slow_device: /dev/cuse");
	return 1;
}
