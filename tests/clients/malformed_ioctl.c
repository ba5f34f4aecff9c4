/*
 * Sends malformed requests with ioctl(), and prints one line for each: the return value and errno. A library that
 * interposes ioctl() must change none of the answers, and must not crash.
 *
 * Exit status 1 only if there is no device: the caller compares the answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNTOUCHED 4242 /* no error number: a call that succeeds leaves it there */
#define UNKNOWN 0x7777
#define GARBAGE 0xdeadbeef00000000ul

struct request {
    struct ib_uverbs_ioctl_hdr header;
    struct ib_uverbs_attr attributes[4];
};

/* The end of a readable page; the next page is not mapped. */
static char *edge;

static void answer(const char *what, int result)
{
    printf("%s: %d, errno %d\n", what, result, errno);
    errno = UNTOUCHED;
}

#define ASK(what, ...) answer(what, (errno = UNTOUCHED, ioctl(__VA_ARGS__)))

static struct request request(unsigned int object, unsigned int method, unsigned int attributes)
{
    struct request request = {.header = {
                                  .length = sizeof request.header + attributes * sizeof request.attributes[0],
                                  .object_id = object,
                                  .method_id = method,
                                  .num_attrs = attributes,
                                  .driver_id = RDMA_DRIVER_RXE,
                              }};
    return request;
}

/* A command of the write() interface in its ioctl() form, as libibverbs sends it, with no other attribute. */
static struct request write_command(unsigned long command)
{
    struct request made = request(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE, 1);
    made.attributes[0].attr_id = UVERBS_ATTR_WRITE_CMD;
    made.attributes[0].len = sizeof(__u64);
    made.attributes[0].flags = UVERBS_ATTR_F_MANDATORY;
    made.attributes[0].data = command;
    return made;
}

static struct request destroy(unsigned int handle)
{
    struct request made = request(UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY, 1);
    made.attributes[0].attr_id = UVERBS_ATTR_DESTROY_MR_HANDLE;
    made.attributes[0].flags = UVERBS_ATTR_F_MANDATORY;
    made.attributes[0].data = handle;
    return made;
}

/* The first `there` bytes of a request; the bytes after them cannot be read. */
static void *cut_off(const struct request *request, size_t there)
{
    return memcpy(edge - there, request, there);
}

static void ask_for_lengths(int fd)
{
    static const struct {
        unsigned int length, attributes;
    } wrong[] = {{0, 0}, {8, 0}, {23, 0}, {24, 1}, {25, 0}, {39, 1}, {41, 1}, {40, 0}, {40, 2}, {24, 65535}, {65535, 0},
                 {65535, 65535}, {65528, 4094}};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char what[80];
        struct request with = write_command(IB_USER_VERBS_CMD_REG_MR);
        with.header.length = wrong[i].length;
        with.header.num_attrs = wrong[i].attributes;
        snprintf(what, sizeof what, "length %u, %u attributes", wrong[i].length, wrong[i].attributes);
        ASK(what, fd, RDMA_VERBS_IOCTL, &with);
    }
}

static void ask_for_addresses(int fd)
{
    struct request good = write_command(IB_USER_VERBS_CMD_REG_MR);
    struct request empty = request(UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY, 0);

    ASK("NULL", fd, RDMA_VERBS_IOCTL, NULL);
    ASK("address 8", fd, RDMA_VERBS_IOCTL, 8);
    ASK("address -1", fd, RDMA_VERBS_IOCTL, -1L);
    ASK("address -8", fd, RDMA_VERBS_IOCTL, -8L);
    ASK("not an address", fd, RDMA_VERBS_IOCTL, 0x8000000000000000ul);
    ASK("unmapped", fd, RDMA_VERBS_IOCTL, edge);
    ASK("half a header", fd, RDMA_VERBS_IOCTL, cut_off(&good, 12));
    ASK("a header less its last byte", fd, RDMA_VERBS_IOCTL, cut_off(&good, 23));
    ASK("a header, no attribute there", fd, RDMA_VERBS_IOCTL, cut_off(&good, 24));
    ASK("half an attribute", fd, RDMA_VERBS_IOCTL, cut_off(&good, 32));
    ASK("an attribute less its last byte", fd, RDMA_VERBS_IOCTL, cut_off(&good, 39));
    ASK("a whole request at the end", fd, RDMA_VERBS_IOCTL, cut_off(&good, 40));
    ASK("a whole header at the end", fd, RDMA_VERBS_IOCTL, cut_off(&empty, 24));
    ASK("an odd address", fd, RDMA_VERBS_IOCTL, (char *)memmove(edge - 41, &good, 40));
}

static void ask_for_commands(int fd)
{
    struct request asked;

    asked = request(UNKNOWN, 0, 0);
    ASK("unknown object", fd, RDMA_VERBS_IOCTL, &asked);
    asked = request(UVERBS_OBJECT_MR, UNKNOWN, 0);
    ASK("unknown method", fd, RDMA_VERBS_IOCTL, &asked);
    asked = request(0x1002, 0x1000, 0); /* the registration of another driver */
    ASK("a driver's object", fd, RDMA_VERBS_IOCTL, &asked);
    asked.header.driver_id = RDMA_DRIVER_MLX5;
    ASK("another driver's object", fd, RDMA_VERBS_IOCTL, &asked);
    asked = write_command(UNKNOWN);
    ASK("unknown command", fd, RDMA_VERBS_IOCTL, &asked);
    asked = write_command(IB_USER_VERBS_CMD_REG_MR | GARBAGE);
    ASK("a command with garbage above it", fd, RDMA_VERBS_IOCTL, &asked);
    asked = write_command(IB_USER_VERBS_CMD_REG_MR);
    asked.attributes[0].len = 4;
    ASK("a short command", fd, RDMA_VERBS_IOCTL, &asked);
    asked = write_command(IB_USER_VERBS_CMD_REG_MR);
    asked.header.num_attrs = 2;
    asked.header.length += sizeof asked.attributes[0];
    asked.attributes[1] = asked.attributes[0];
    asked.attributes[1].data = IB_USER_VERBS_CMD_DEREG_MR;
    ASK("two commands", fd, RDMA_VERBS_IOCTL, &asked);
    asked = request(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE, 0);
    ASK("no command", fd, RDMA_VERBS_IOCTL, &asked);
    asked = destroy(UNKNOWN);
    ASK("no such region", fd, RDMA_VERBS_IOCTL, &asked);
    asked.header.reserved1 = 1;
    ASK("reserved field", fd, RDMA_VERBS_IOCTL, &asked);
}

/* A valid registration, built by hand. */
static void ask_for_regions(struct ibv_context *context)
{
    static char memory[4096];
    struct ibv_pd *pd = ibv_alloc_pd(context);
    struct ibv_mr *mr = pd ? ibv_reg_mr(pd, memory, sizeof memory, 0) : NULL;

    if (!mr) {
        perror("cannot register");
        exit(1);
    }
    struct request asked = destroy(mr->handle);
    ASK("destroy, garbage above the request", context->cmd_fd, RDMA_VERBS_IOCTL | GARBAGE, &asked);
    ASK("destroy again", context->cmd_fd, RDMA_VERBS_IOCTL, &asked);
    answer("ibv_dealloc_pd", ibv_dealloc_pd(pd));
}

static void ask_others(void)
{
    struct request good = destroy(1);
    int ends[2], sockets[2], waiting = 0;
    struct winsize size;
    int null = open("/dev/null", O_RDWR);

    if (null < 0 || pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) || write(ends[1], "seven b", 7) != 7) {
        perror("cannot open");
        exit(1);
    }
    const struct {
        const char *name;
        int fd;
    } others[] = {{"no descriptor", -1}, {"a pipe", ends[0]}, {"/dev/null", null}, {"a socket", sockets[0]}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int fd = others[i].fd;
        printf("%s\n", others[i].name);
        ASK("a request", fd, RDMA_VERBS_IOCTL, &good);
        ASK("a request of NULL", fd, RDMA_VERBS_IOCTL, NULL);
        ASK("garbage above the request", fd, RDMA_VERBS_IOCTL | GARBAGE, &good);
        ASK("TIOCGWINSZ", fd, TIOCGWINSZ, &size);
        ASK("FIONREAD", fd, FIONREAD, &waiting);
        printf("%d bytes waiting\n", waiting);
        ASK("FIONREAD to nowhere", fd, FIONREAD, NULL);
        ASK("FIOCLEX, no argument", fd, FIOCLEX);
        printf("FD_CLOEXEC: %d\n", fcntl(fd, F_GETFD));
        ASK("request 0", fd, 0ul);
        ASK("request -1", fd, -1ul);
    }
    /* The register of the missing argument holds an arbitrary value; the answer is defined nevertheless. */
    ASK("no descriptor, no argument", -1, RDMA_VERBS_IOCTL);
}

int main(void)
{
    struct ibv_device **devices = ibv_get_device_list(NULL);
    struct ibv_context *context = devices && devices[0] ? ibv_open_device(devices[0]) : NULL;
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fresh = open("/dev/infiniband/uverbs0", O_RDWR);

    if (!context || pages == MAP_FAILED || fresh < 0) {
        perror("cannot open");
        return 1;
    }
    edge = pages + page;
    munmap(edge, page);

    /* A descriptor without a context, as every program may open it, and one with a context. */
    const int fds[] = {fresh, context->cmd_fd};
    for (int i = 0; i < 2; i++) {
        printf(i ? "with a context\n" : "without a context\n");
        ask_for_lengths(fds[i]);
        ask_for_addresses(fds[i]);
        ask_for_commands(fds[i]);
    }
    ask_for_regions(context);
    ask_others();
    return 0;
}
