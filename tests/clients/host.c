/*
 * host PLUGIN [threads]
 *
 * An executable not linked to libibverbs, which loads PLUGIN (plugin.c) with
 * RTLD_LOCAL and runs it. libibverbs comes in with the plugin, outside the global
 * scope: what a Python process looks like.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 8;
	if (argc < 2 || threads < 1) {
		fprintf(stderr, "usage: host PLUGIN [threads]\n");
		return 2;
	}
	void *plugin = dlopen(argv[1], RTLD_LOCAL | RTLD_NOW);
	int (*run)(int);
	/* Through a pointer: ISO C knows no cast from an object to a function. */
	*(void **)&run = plugin ? dlsym(plugin, "plugin_run") : NULL;
	if (!run) {
		fprintf(stderr, "host: %s\n", dlerror());
		return 1;
	}
	int failed = run(threads);
	printf("host: %d of %d threads failed\n", failed, threads);
	return failed != 0;
}
