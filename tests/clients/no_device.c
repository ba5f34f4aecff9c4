/*
 * Preloaded: ibv_get_device_list() fails with the error number in LIST, or ibv_open_device() with that in OPEN, as those of
 * rdma-core do without a driver, without a device file, or without permission.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>

static int number(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

struct ibv_device **ibv_get_device_list(int *count)
{
	struct ibv_device **(*real)(int *);

	*(void **)&real = dlsym(RTLD_NEXT, "ibv_get_device_list");
	if (!number("LIST"))
		return real(count);
	errno = number("LIST");
	return NULL;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	(void)device;
	errno = number("OPEN");
	return NULL;
}
