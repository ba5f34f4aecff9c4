/*
 * linked_register_main [PLUGIN]
 *
 * Runs linked_register.c, which it is linked with or which comes with PLUGIN.
 */
#include <dlfcn.h>
#include <stdio.h>

int linked_run(void) __attribute__((weak));

int main(int argc, char **argv)
{
	int (*run)(void) = linked_run;

	if (argc > 1) {
		void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
		*(void **)&run = plugin ? dlsym(plugin, "linked_run") : NULL;
	}
	if (run)
		return run();
	fprintf(stderr, "%s\n", dlerror());
	return 2;
}
