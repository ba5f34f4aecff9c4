/*
 * A library that simulates the NVIDIA driver, preloaded behind mrlock: its ioctl() calls the
 * argument of NV_ESC_RM_FREE as a function.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>

#define NV_ESC_RM_FREE 0xC0104629

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	if ((unsigned int)request == NV_ESC_RM_FREE) {
		((void (*)(void))argument)();
		return 0;
	}
	int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return next(fd, request, argument);
}
