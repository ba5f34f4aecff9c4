/* SPDX-License-Identifier: GPL-2.0 */
/* What nv-p2p.c allocates, and frees into a quarantine. See witness.c. */
#ifndef PEERMEM_WITNESS_H
#define PEERMEM_WITNESS_H
#include <linux/types.h>

void *witness_alloc(size_t size);
void witness_free(const void *p);
bool witness_is_full(void);
int witness_begin(void);
void witness_end(void);
#endif
