/*
 * A preload library for a program that qemu-user runs, on a kernel that starts no program of
 * that processor: execvp() starts qemu-user with the program. What the loader reads is for the
 * program, and not for qemu-user itself.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int execvp(const char *file, char *const argv[])
{
	static const char *const settings[] = {"LD_PRELOAD", "LD_LIBRARY_PATH"};
	static char text[2][4096];
	char *words[64] = {"qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"};
	int count = 3;

	for (int i = 0; i < 2; i++) {
		const char *value = getenv(settings[i]);

		if (!value)
			continue;
		snprintf(text[i], sizeof text[i], "%s=%s", settings[i], value);
		words[count++] = "-E";
		words[count++] = text[i];
		unsetenv(settings[i]);
	}
	words[count++] = (char *)file;
	for (int i = 1; argv[i] && count < 63; i++)
		words[count++] = argv[i];
	return execv("/usr/bin/qemu-aarch64", words);
}
