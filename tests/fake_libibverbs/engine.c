/*
 * What a transfer engine (Mooncake's) asks of a device before it registers memory: its limits, a port that is active, a GID,
 * event channels, completion queues. Part of the build of the fake libibverbs that has FAKE_IBV_ENGINE. There are no queue
 * pairs and no events: nothing can be sent.
 *
 * Structures have the size of rdma-core 44's, and names for the fields that are filled here.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default"), used))

enum { GIDS = 2, ROCE_V2 = 2, PORT_ACTIVE = 4, MTU_4096 = 5, ETHERNET = 2 };

struct device_limits {
	char firmware[64];
	uint64_t guids[2];
	uint64_t max_mr_size;
	uint64_t page_size_cap;
	uint32_t vendor[3];
	int max_qp, max_qp_wr;
	unsigned int device_cap_flags;
	int max_sge, max_sge_rd, max_cq, max_cqe, max_mr, max_pd, max_qp_rd_atom;
	int others[19];
	uint16_t max_pkeys;
	uint8_t local_ca_ack_delay;
	uint8_t phys_port_cnt;
};
_Static_assert(sizeof(struct device_limits) == 232, "as struct ibv_device_attr");

struct port {
	int state, max_mtu, active_mtu, gid_tbl_len;
	uint32_t port_cap_flags, max_msg_sz, others[2];
	uint16_t pkey_tbl_len, lid, sm_lid;
	uint8_t bytes[6];
	uint8_t active_speed, phys_state, link_layer, flags;
	uint16_t port_cap_flags2;
};
_Static_assert(sizeof(struct port) == 52, "as struct ibv_port_attr");

struct gid_entry {
	uint8_t gid[16];
	uint32_t gid_index, port_num, gid_type, ndev_ifindex;
};

struct ibv_comp_channel {
	struct ibv_context *context;
	int fd;
	int refcnt;
};

struct ibv_cq {
	struct ibv_context *context;
	struct ibv_comp_channel *channel;
	void *cq_context;
	uint32_t handle;
	int cqe;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	uint32_t events_completed[2];
};
/* 128 bytes on x86_64; arm64 has a larger mutex. */
_Static_assert(sizeof(struct ibv_cq) == 88 + sizeof(pthread_mutex_t), "as struct ibv_cq");

EXPORT int ibv_fork_init(void) { return 0; }

EXPORT int ibv_query_device(struct ibv_context *context, struct device_limits *limits)
{
	(void)context;
	*limits = (struct device_limits){
		.max_mr_size = UINT64_MAX, .page_size_cap = 4096, .max_qp = 4096, .max_qp_wr = 4096, .max_sge = 16,
		.max_sge_rd = 16, .max_cq = 4096, .max_cqe = 65536, .max_mr = 65536, .max_pd = 4096, .max_qp_rd_atom = 16,
		.max_pkeys = 1, .phys_port_cnt = 1,
	};
	return 0;
}

EXPORT int ibv_query_port(struct ibv_context *context, uint8_t number, struct port *port)
{
	(void)context;
	if (number != 1)
		return errno = EINVAL;
	/* A caller's own structure may be older, and end before port_cap_flags2. */
	memset(port, 0, offsetof(struct port, port_cap_flags2));
	port->state = PORT_ACTIVE;
	port->max_mtu = port->active_mtu = MTU_4096;
	port->gid_tbl_len = GIDS;
	port->max_msg_sz = 1 << 30;
	port->pkey_tbl_len = 1;
	port->phys_state = 5; /* the link is up */
	port->link_layer = ETHERNET;
	return 0;
}

/* ::ffff:10.0.0.1 and so on: the address of RoCE. */
static int gid_of(uint32_t index, uint8_t gid[16])
{
	if (index >= GIDS)
		return errno = EINVAL;
	memcpy(gid, (uint8_t[16]){[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)(index + 1)}, 16);
	return 0;
}

EXPORT int ibv_query_gid(struct ibv_context *context, uint8_t port, int index, uint8_t gid[16])
{
	(void)context, (void)port;
	return gid_of((uint32_t)index, gid) ? -1 : 0;
}

EXPORT int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index, struct gid_entry *entry,
			     uint32_t flags, size_t size)
{
	(void)context;
	if (flags || size != sizeof *entry)
		return EINVAL;
	*entry = (struct gid_entry){.gid_index = index, .port_num = port, .gid_type = ROCE_V2};
	return gid_of(index, entry->gid);
}

EXPORT struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context)
{
	struct ibv_comp_channel *channel = calloc(1, sizeof *channel);
	if (!channel)
		return NULL;
	channel->context = context;
	channel->fd = eventfd(0, EFD_CLOEXEC);
	return channel;
}

EXPORT int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	if (channel->refcnt)
		return errno = EBUSY;
	close(channel->fd);
	free(channel);
	return 0;
}

/* No completion ever comes, and so no event. */
static void request_events(void) {}

EXPORT struct ibv_cq *ibv_create_cq(struct ibv_context *context, int entries, void *cq_context,
				    struct ibv_comp_channel *channel, int vector)
{
	struct ibv_cq *queue = calloc(1, sizeof *queue);
	(void)vector;
	if (!queue)
		return NULL;
	/* ibv_req_notify_cq() is an inline function that calls the driver: the slot behind poll_cq. */
	context->ops._more_slots[0] = request_events;
	*queue = (struct ibv_cq){.context = context, .channel = channel, .cq_context = cq_context, .cqe = entries};
	if (channel)
		channel->refcnt++;
	return queue;
}

EXPORT int ibv_destroy_cq(struct ibv_cq *queue)
{
	if (queue->channel)
		queue->channel->refcnt--;
	free(queue);
	return 0;
}

/* What an engine does later, when it connects: not supported. */
static void *unsupported(void)
{
	errno = EOPNOTSUPP;
	return NULL;
}
#define UNSUPPORTED(name)                                                                                              \
	EXPORT int name(void)                                                                                          \
	{                                                                                                              \
		unsupported();                                                                                         \
		return -1;                                                                                             \
	}
UNSUPPORTED(ibv_modify_qp)
UNSUPPORTED(ibv_query_qp)
UNSUPPORTED(ibv_destroy_qp)
UNSUPPORTED(ibv_destroy_ah)
UNSUPPORTED(ibv_get_cq_event)
UNSUPPORTED(ibv_get_async_event)
EXPORT void *ibv_create_qp(void) { return unsupported(); }
EXPORT void *ibv_create_ah(void) { return unsupported(); }
EXPORT void *ibv_reg_dmabuf_mr(void) { return unsupported(); }
EXPORT void ibv_ack_cq_events(void) {}
EXPORT void ibv_ack_async_event(void) {}
EXPORT const char *ibv_event_type_str(void) { return "unknown"; }
EXPORT const char *ibv_wc_status_str(void) { return "unknown"; }
