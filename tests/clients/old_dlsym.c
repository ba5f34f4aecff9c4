/*
 * A preload library with the dlsym() of glibc before 2.36: where RTLD_NEXT comes to
 * a module that has a symbol in several versions, it takes the oldest.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#ifdef __aarch64__
#define FIRST_GLIBC "GLIBC_2.17"
#else
#define FIRST_GLIBC "GLIBC_2.2.5"
#endif

/* The oldest version in libibverbs; the default version is IBVERBS_1.1 or later. */
#define OLDEST "IBVERBS_1.0"

void *dlsym(void *handle, const char *name)
{
	void *(*real)(void *, const char *), *oldest;

	*(void **)&real = dlvsym(RTLD_NEXT, "dlsym", FIRST_GLIBC);
	oldest = handle == RTLD_NEXT ? dlvsym(RTLD_NEXT, name, OLDEST) : 0;
	return oldest ? oldest : real(handle, name);
}
