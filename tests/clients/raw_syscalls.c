/*
 * Makes its system calls itself, as Go programs do: a preload library does not see
 * them. Linked statically, it is a process without a loader.
 */
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long raw(long number, long a, long b, long c)
{
#ifdef __aarch64__
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#else
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
#endif
}

int main(void)
{
	int ends[2], bytes = 0;
	if (pipe(ends) || write(ends[1], "hello", 5) != 5)
		return 1;
	long result = raw(SYS_ioctl, ends[0], FIONREAD, (long)&bytes);
	printf("raw_syscalls: %ld, %d bytes; libc: %d\n", result, bytes, ioctl(ends[0], FIONREAD, &bytes));
	return 0;
}
