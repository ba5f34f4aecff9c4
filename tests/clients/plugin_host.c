/*
 * plugin_host PLUGIN...
 *
 * An executable that loads each PLUGIN (plugin.c) with RTLD_LOCAL and runs them
 * all at once, with eight threads each. It is not linked to libibverbs, which
 * comes in with the plugins, outside the global scope: as in a Python
 * process. (plugin_host_linked is the same program linked to libibverbs.)
 */
#include "plugin.h"

#include <pthread.h>

#define THREADS 8

struct running {
	struct plugin plugin;
	pthread_t thread;
	int failed;
};

static void *run(void *argument)
{
	struct running *me = argument;
	me->failed = me->plugin.run(THREADS);
	return NULL;
}

int main(int argc, char **argv)
{
	struct running plugins[8];
	int count = argc - 1, failed = 0;

	if (count < 1 || count > 8) {
		fprintf(stderr, "usage: plugin_host PLUGIN...\n");
		return 2;
	}
	for (int i = 0; i < count; i++)
		plugins[i].plugin = plugin_open(argv[i + 1]);
	for (int i = 0; i < count; i++) {
		if (pthread_create(&plugins[i].thread, NULL, run, &plugins[i])) {
			fprintf(stderr, "plugin_host: cannot start a thread\n");
			return 1;
		}
	}
	for (int i = 0; i < count; i++) {
		pthread_join(plugins[i].thread, NULL);
		printf("plugin %d: served by copy %u, %d of %d threads failed\n", i,
		       plugins[i].plugin.copy(), plugins[i].failed, THREADS);
		failed += plugins[i].failed;
	}
	return failed != 0;
}
