/*
 * The registrations and frees of GPU memory that witness.so, preloaded behind mrlock, counted.
 */
#ifndef WITNESS_H
#define WITNESS_H

#include <stdatomic.h>

struct witness {
	atomic_ulong registrations; /* and deregistrations */
	atomic_ulong frees;	    /* requests to the NVIDIA driver */
	atomic_ulong meetings;	    /* calls of one kind that began while one of the other was under way */
};

#endif
