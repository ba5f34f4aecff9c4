#!/bin/sh
# Linux (6.1, 6.12, 7.2): a process that opened a device, forked a child and was then killed (by the OOM killer, say) keeps answering RDMA
# for as long as the child lives, even if the child has never called a verb and does not have the memory mapped. What a context made belongs
# to the open file /dev/infiniband/uverbs0, and a child inherits that unless it calls exec (the file is close-on-exec). So:
# - A peer's RDMA READ succeeds, on the memory of a process that no longer exists. Whether a server lives cannot be
#   learnt from whether one-sided operations on it succeed.
# - The memory stays pinned. It is in no process's size, and killing the server has not freed it.
# - `rdma resource show mr` lists the region without a process: no pid leads to the child.
# Python's multiprocessing with "fork", the default on Linux before 3.14, makes such children, and they can outlive a killed parent.
#
# Seen on 2026-11-28, libibverbs 44.0-2, iproute2 6.1.0, Soft-RoCE; a region of 512 MiB in a machine of 2 GiB:
#   Linux 6.1.0-56-amd64
#   the server lives: RDMA READ: success, "the server's memory"; rdma: a region of a process; freed: nothing
#   the server is dead: RDMA READ: success, "the server's memory"; rdma: a region of no process; freed: nothing
#   its child is dead too: RDMA READ: transport retry counter exceeded, ""; rdma: no region; freed: most of it
# and the same in 6.12.117+deb13-amd64 and 7.2.13+deb14-amd64.
#
# Needs what tests/vm/prepare-releases brings. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/guest"
cat >"$work/guest/program.c" <<'EOF'
#include <infiniband/verbs.h>
#include "proc.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 512 << 20 };

struct end { /* what the other side has to know */
	uint32_t number, key;
	uint64_t address;
	pid_t child;
};

static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_qp *qp;

static void open_queue_pair(void)
{
	struct ibv_context *context = ibv_open_device(*ibv_get_device_list(NULL));
	pd = ibv_alloc_pd(context);
	cq = ibv_create_cq(context, 1, NULL, NULL, 0);
	qp = ibv_create_qp(pd, &(struct ibv_qp_init_attr){.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .sq_sig_all = 1,
		.cap = {.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1}});
}

static void connect_to(uint32_t number)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qp_access_flags = IBV_ACCESS_REMOTE_READ};
	int failed = ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = number, .max_dest_rd_atomic = 1,
		.min_rnr_timer = 1, .ah_attr = {.is_global = 1, .port_num = 1, .grh = {.sgid_index = 1, .hop_limit = 1}}};
	failed |= ibv_query_gid(qp->context, 1, 1, &attr.ah_attr.grh.dgid);
	failed |= ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
		IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 3, .max_rd_atomic = 1};
	failed |= ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
		IBV_QP_MAX_QP_RD_ATOMIC);
	if (failed)
		exit(1);
}

static void serve(int in, int out)
{
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct end mine, other;
	strcpy(memset(memory, 1, SIZE), "the server's memory");
	open_queue_pair();
	struct ibv_mr *region = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_REMOTE_READ);
	read(in, &other, sizeof other);
	connect_to(other.number);
	mine = (struct end){qp->qp_num, region->rkey, (uintptr_t)memory, fork()};
	if (!mine.child) {
		munmap(memory, SIZE);
		for (;;)
			pause();
	}
	write(out, &mine, sizeof mine);
	for (;;)
		pause();
}

/* Without what the kernel keeps free for one processor, up to 128 MiB here. */
static long mib_available(void) { return mib("/proc/meminfo", "MemAvailable"); }

static long before;

/* What `rdma` says of the server's region. */
static const char *listed(void)
{
	static char line[256];
	const char *answer = "no region";
	FILE *regions = popen("rdma resource show mr", "r");
	while (fgets(line, sizeof line, regions))
		if (strstr(line, "mrlen 536870912"))
			answer = strstr(line, " pid ") ? "a region of a process" : "a region of no process";
	pclose(regions);
	return answer;
}

static void look(const char *when, const struct end *server)
{
	static char buffer[64];
	static struct ibv_mr *region;
	struct ibv_wc completion = {0};

	if (!region) {
		region = ibv_reg_mr(pd, buffer, sizeof buffer, IBV_ACCESS_LOCAL_WRITE);
		before = mib_available();
	}
	memset(buffer, 0, sizeof buffer);
	struct ibv_sge sge = {(uintptr_t)buffer, sizeof buffer, region->lkey};
	struct ibv_send_wr read = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_READ,
		.wr.rdma = {server->address, server->key}}, *bad;
	ibv_post_send(qp, &read, &bad);
	while (!ibv_poll_cq(cq, 1, &completion))
		;
	printf("%s: RDMA READ: %s, \"%s\"; rdma: %s; freed: %s\n", when, ibv_wc_status_str(completion.status), buffer, listed(),
	       mib_available() - before > 300 ? "most of it" : "nothing");
	fflush(stdout);
}

int main(void)
{
	int in[2], out[2];
	struct end server;

	pipe(in);
	pipe(out);
	pid_t process = fork();
	if (!process)
		serve(in[0], out[1]);
	open_queue_pair();
	write(in[1], &(struct end){.number = qp->qp_num}, sizeof server);
	read(out[0], &server, sizeof server);
	connect_to(server.number);
	look("the server lives", &server);
	kill(process, SIGKILL);
	waitpid(process, NULL, 0);
	look("the server is dead", &server);
	kill(server.child, SIGKILL);
	while (!kill(server.child, 0))
		usleep(10000);
	/* The kernel frees the pages a little later. */
	for (int i = 0; i < 1000 && mib_available() - before <= 300; i++)
		usleep(10000);
	look("its child is dead too", &server);
}
EOF
cat >"$work/guest/expected" <<'EOF'
the server lives: RDMA READ: success, "the server's memory"; rdma: a region of a process; freed: nothing
the server is dead: RDMA READ: success, "the server's memory"; rdma: a region of no process; freed: nothing
its child is dead too: RDMA READ: transport retry counter exceeded, ""; rdma: no region; freed: most of it
EOF
"$(dirname "$0")/boot" "$work/guest"
