/*
 * What witness.so, preloaded behind mrlock, saw of registrations and of frees of GPU memory.
 */
#ifndef WITNESS_H
#define WITNESS_H

#include <stdatomic.h>

struct witness {
	atomic_ulong registrations; /* and deregistrations */
	atomic_ulong frees;	    /* requests to the NVIDIA driver */
	atomic_ulong meetings;	    /* calls of one of both that came in while another was under way */
};

#endif
