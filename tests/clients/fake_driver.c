/*
 * A library that simulates the NVIDIA driver, preloaded behind mrlock: its ioctl() handles
 * NV_ESC_RM_FREE with the fake libibverbs' fake_gpu_free(), which kills the process if it overlaps
 * a registration of GPU memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#define NV_ESC_RM_FREE 0xC0104629

void fake_gpu_free(void);

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	if ((unsigned int)request == NV_ESC_RM_FREE) {
		fake_gpu_free();
		return 0;
	}
	int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return next(fd, request, argument);
}
