/*
 * A preload library with the dlsym() of glibc before 2.36: where RTLD_NEXT comes to
 * a module that has a symbol in several versions, it takes the oldest.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

/* The oldest version in libibverbs; the default version is IBVERBS_1.1 or later. */
#define OLDEST "IBVERBS_1.0"

void *dlsym(void *handle, const char *name)
{
	void *(*real)(void *, const char *), *oldest;

	*(void **)&real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	oldest = handle == RTLD_NEXT ? dlvsym(RTLD_NEXT, name, OLDEST) : 0;
	return oldest ? oldest : real(handle, name);
}
