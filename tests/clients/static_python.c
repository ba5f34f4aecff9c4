/*
 * A Python with libibverbs and its Soft-RoCE provider linked in statically. A script finds plugin_run (plugin.c) in
 * the program itself: what it registers by it never passes a shared libibverbs.
 *
 * The executable, because Debian's archives can only be linked into one: they are built -fPIE, not -fPIC.
 */
#include "plugin.c"

int Py_BytesMain(int argc, char **argv); /* of libpython */

int main(int argc, char **argv)
{
	/* verbs.h makes this call pull the provider into the program. */
	ibv_free_device_list(ibv_get_device_list(NULL));
	return Py_BytesMain(argc, argv);
}
