/* The checks of mr_check.c, made through the functions and structures of version IBVERBS_1.0. */
#define MR_CHECK_ABI_1_0
#include "mr_check.c"
