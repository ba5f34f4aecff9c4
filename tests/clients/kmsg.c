/* A preload in which reads of /dev/ptmx return what the kernel documents of /dev/kmsg: one record a read, and errors between them. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

ssize_t read(int fd, void *buffer, size_t size)
{
	static const char *record = "3,9,1,-;nv_get_p2p_free_callback -- invalid dma_mapping\n SUBSYSTEM=x\n";
	static int calls;
	struct stat stat;

	if (fstat(fd, &stat) || !S_ISCHR(stat.st_mode) || stat.st_rdev != makedev(5, 2))
		return syscall(SYS_read, fd, buffer, size);
	/* A blocking read would wait, and a small buffer is refused. */
	if (!(fcntl(fd, F_GETFL) & O_NONBLOCK) || size < 8192)
		abort();
	if (getenv("REFUSED")) {
		errno = EPERM;
		return -1;
	}
	switch (calls++) {
	case 0:
	case 3:
		return strlen(strcpy(buffer, record));
	case 1:
		errno = EPIPE;
		return -1;
	case 2:
		errno = EINTR;
		return -1;
	default:
		errno = EAGAIN;
		return -1;
	}
}
