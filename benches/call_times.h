/*
 * What call_times.so, preloaded behind a lock, keeps for contend. Written by the thread
 * that is inside the lock, read by another. Nanoseconds.
 */
#ifndef CALL_TIMES_H
#define CALL_TIMES_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

struct call_times {
	_Atomic uint64_t calls;
	_Atomic uint64_t held;	    /* spent inside calls */
	_Atomic uint64_t lost;	    /* between the end of one call and the beginning of the next */
	_Atomic uint64_t last_left; /* when the last call ended */
};

static inline uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
