/*
 * A program that can do without RDMA and is not linked to libibverbs: asks by weak
 * references and by dlsym() whether another module of the process has brought it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdio.h>

#undef ibv_reg_mr

#pragma weak ibv_reg_mr
#pragma weak ibv_get_device_list

int main(void)
{
	printf("a weak reference: %s\n", ibv_reg_mr ? "yes" : "no");
	printf("dlsym: %s\n", dlsym(RTLD_DEFAULT, "ibv_reg_mr") ? "yes" : "no");
	fflush(stdout);
	if (!ibv_reg_mr)
		return puts("goes on by TCP"), 0;
	int devices = 0;
	ibv_get_device_list(&devices);
	return printf("%d devices\n", devices), 0;
}
