/*
 * reload_plugin PLUGIN...
 *
 * Loads, runs and unloads each PLUGIN (plugin.c), one after the other. Prints which
 * copy of libibverbs served it, whether it was loaded at the address of the one
 * before, and whether dlclose() unloaded it.
 */
#include "plugin.h"

int main(int argc, char **argv)
{
	plugin_run_function *before = NULL;
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		struct plugin plugin = plugin_open(argv[i]);
		failed += plugin.run(1);
		unsigned int copy = plugin.copy();
		dlclose(plugin.handle);
		printf("served by copy %u, %s, %s\n", copy,
		       plugin.run == before ? "at the same address" : "at another address",
		       dlopen(argv[i], RTLD_NOLOAD | RTLD_LAZY) ? "still loaded" : "unloaded");
		before = plugin.run;
	}
	return failed != 0;
}
