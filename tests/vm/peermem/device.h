/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0 */
/*
 * What gpureg.c asks of rm.c's /dev/nvidiactl. The block that ALLOCATE makes is mapped by mmap() at the offset handle * 4096.
 * RM_FREE is the driver's own request, NV_ESC_RM_FREE, with its own structure: the one that mrlock looks for.
 */
#ifndef PEERMEM_DEVICE_H
#define PEERMEM_DEVICE_H
#include <linux/ioctl.h>
#include <linux/types.h>

struct allocation {
	__u64 size;
	__u32 handle, status;
};

struct release {
	__u32 root, parent, object, status;
};

#define ALLOCATE _IOWR('F', 0x27, struct allocation)
#define RM_FREE _IOWR('F', 0x29, struct release)
#define GPU_PAGE 65536UL /* nvidia-peermem rounds addresses and lengths to it */
#endif
