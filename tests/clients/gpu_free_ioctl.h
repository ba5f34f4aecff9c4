/*
 * The driver's part of a free: an ioctl() that handles NV_ESC_RM_FREE, and forwards every other
 * request. It calls free_gpu_memory(), which the file that includes this defines.
 */
#ifndef GPU_FREE_IOCTL_H
#define GPU_FREE_IOCTL_H

#include <dlfcn.h> /* _GNU_SOURCE is defined before */
#include <stdarg.h>
#include <sys/ioctl.h>

#define NV_ESC_RM_FREE 0xC0104629

static void free_gpu_memory(void);

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	if ((unsigned int)request == NV_ESC_RM_FREE) {
		free_gpu_memory();
		return 0;
	}
	int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return next(fd, request, argument);
}

#endif
