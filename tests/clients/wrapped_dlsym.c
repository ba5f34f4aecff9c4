/*
 * A preload library that defines dlsym(), as libraries that share a GPU do: it calls libc's
 * dlsym() itself for the symbols that it does not replace, so RTLD_NEXT is relative to it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#ifdef __aarch64__
#define FIRST_GLIBC "GLIBC_2.17"
#else
#define FIRST_GLIBC "GLIBC_2.2.5"
#endif

void *dlsym(void *handle, const char *name)
{
	void *(*real)(void *, const char *);
	void *volatile found;

	*(void **)&real = dlvsym(RTLD_NEXT, "dlsym", FIRST_GLIBC);
	/* Stored first: a call in tail position would return to this function's caller, which would then count as the caller. */
	found = real(handle, name);
	return found;
}
