/* For the programs of findings/boot. */
#include <stdio.h>
#include <string.h>

/* The number behind "KEY:" in this file of /proc, in KiB there, as MiB; -1 if there is none. */
static long mib(const char *name, const char *key)
{
	char line[256];
	long kilobytes = -1024;
	FILE *file = fopen(name, "r");

	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), ": %ld", &kilobytes) == 1)
			break;
	if (file)
		fclose(file);
	return kilobytes / 1024;
}
