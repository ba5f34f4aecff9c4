/*
 * How a program loads a plugin.c and runs it.
 */
#ifndef PLUGIN_H
#define PLUGIN_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* Runs so many threads; returns how many failed. */
typedef int plugin_run_function(int threads);
/* Which copy of the fake libibverbs its regions came from. */
typedef unsigned int plugin_copy_function(void);

struct plugin {
	void *handle;
	plugin_run_function *run;
	plugin_copy_function *copy;
};

/* Loads FILE with RTLD_LOCAL; exits if there is no such plugin. */
static inline struct plugin plugin_open(const char *file)
{
	struct plugin plugin = {.handle = dlopen(file, RTLD_LOCAL | RTLD_NOW)};
	/* Through pointers: ISO C knows no cast from an object to a function. */
	if (plugin.handle) {
		*(void **)&plugin.run = dlsym(plugin.handle, "plugin_run");
		*(void **)&plugin.copy = dlsym(plugin.handle, "plugin_copy");
	}
	if (!plugin.run || !plugin.copy) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return plugin;
}

#endif
