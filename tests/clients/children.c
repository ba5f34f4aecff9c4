/*
 * children CALL WAY STATE ORDER WIPE
 *
 * A process makes a child, and threads of the child make a call.
 *
 * CALL   register, or free (NV_ESC_RM_FREE, with calling_driver.so behind mrlock)
 * WAY    last     fork; a fork handler that was installed before mrlock's starts a thread that calls
 *        first    the same, installed after mrlock's
 *        _Fork, clone   without fork handlers
 *        vfork    the child calls while the parent's thread waits for it
 * STATE  unused   no thread of the parent has called before
 *        free     the parent's main thread has called; then
 *        mine     it forks in the middle of a call
 *        other    another thread is in a call
 *        waiting  the same, and a third thread waits
 * ORDER  which thread of the child calls first: other, or main; or alone: no thread calls while another does
 * WIPE   what madvise(MADV_WIPEONFORK) does: works; refused: fails; lies: succeeds, and does nothing.
 *        With "-kcmp" behind it, kcmp(2) is not allowed.
 *
 * In the child, a second thread calls and stays inside; then main calls, and the second leaves when main waits, or is inside,
 * too. Then main calls and ends inside, and a third thread calls.
 */
#define _GNU_SOURCE
#define MRLOCK_WEAK
#include "inside_registration.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <mrlock.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NV_ESC_RM_FREE 0xC0104629

static const char *call, *way, *state, *order, *wipe;

static bool is(const char *word, const char *value) { return !strcmp(word, value); }

/* A thread that calls, and what it does inside. */
struct player {
	void (*act)(void);
	struct ibv_pd *pd;
	_Atomic pid_t id;
	atomic_int has_entered;
	sem_t go;
	pthread_t thread;
};

static struct player main_player, holder, waiter, second, third, vforked;
static __thread struct player *me = &main_player;
static atomic_int inside_now, overlaps, calls_made;

/* What happens inside each call. */
static void be_inside(void)
{
	atomic_store(&me->has_entered, 1);
	if (atomic_fetch_add(&inside_now, 1))
		atomic_fetch_add(&overlaps, 1);
	if (me->act)
		me->act();
	atomic_fetch_sub(&inside_now, 1);
}

static void stay(void)
{
	while (sem_wait(&me->go))
		;
}

static void end_here(void)
{
	atomic_fetch_sub(&inside_now, 1);
	syscall(SYS_exit, 0);
}

static void make_child_here(void);

static void make_call(struct player *player, void (*act)(void))
{
	me = player;
	me->act = act;
	atomic_store(&me->has_entered, 0);
	atomic_store(&me->id, own_id());
	if (is(call, "free")) {
		if (ioctl(-1, NV_ESC_RM_FREE, be_inside))
			_exit(3);
		atomic_fetch_add(&calls_made, 1);
		return;
	}
	inside = be_inside;
	struct ibv_mr *mr = ibv_reg_mr(me->pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
	atomic_fetch_add(&calls_made, 1);
	/* In the child, the next call would wait for the second thread, which stays. */
	if (mr && act == make_child_here)
		return;
	if (!mr || ibv_dereg_mr(mr))
		_exit(3);
	atomic_fetch_add(&calls_made, 1);
}

static void *go_on(void *player)
{
	make_call(player, NULL);
	return NULL;
}

static void *go_and_stay(void *player)
{
	make_call(player, stay);
	return NULL;
}

static void start(struct player *player, void *(*how)(void *))
{
	if (pthread_create(&player->thread, NULL, how, player)) {
		perror("children: pthread_create");
		_exit(3);
	}
}

/* Returns when the thread is in its call (1), or sleeps because another thread is (0). */
static int until_inside_or_asleep(struct player *player)
{
	for (;;) {
		pid_t id = atomic_load(&player->id);
		int asleep = id ? is_asleep(id) : 0;
		/* Inside, it may sleep, too. */
		if (atomic_load(&player->has_entered))
			return 1;
		if (asleep > 0)
			return 0;
		sched_yield();
	}
}

static bool is_child;
static int second_entered = -1;

/* The first code of the child. */
static void begin_child(void)
{
	is_child = true;
	give_up_in_time();
	prctl(PR_SET_NAME, "child");
	atomic_store(&inside_now, is(state, "mine"));
	atomic_store(&overlaps, 0);
	atomic_store(&calls_made, 0);
}

static void start_second(void)
{
	start(&second, go_and_stay);
	second_entered = until_inside_or_asleep(&second);
}

/* The fork handler of another library. */
static void handler(void)
{
	begin_child();
	start_second();
}

static void make_child(void)
{
	pid_t child = is(way, "_Fork")   ? _Fork()
		      : is(way, "clone") ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL)
					 : fork();
	if (!child) {
		if (!is_child)
			begin_child();
		if (second_entered < 0 && is(order, "other"))
			start_second();
		return;
	}
	int status = -1;
	if (child < 0 || waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "children: the child: status %#x\n", status);
		_exit(1);
	}
}

static void *third_comes(void *unused)
{
	until_inside_or_asleep(&main_player);
	start(&third, go_on);
	pthread_join(third.thread, NULL);
	_exit(0);
	return unused;
}

static void *second_leaves(void *unused)
{
	until_inside_or_asleep(&main_player);
	sem_post(&second.go);
	return unused;
}

static void *print_in_time(const char *who)
{
	struct mrlock_snapshot stats = {0};
	int error = mrlock_stats(MRLOCK_ALL, &stats, sizeof stats);

	printf("%s %d: second %s, overlaps %d, calls %s, at once %d\n", who, (int)getpid(),
	       second_entered < 0 ? "-" : second_entered ? "entered" : "waited", atomic_load(&overlaps),
	       error                                                    ? "not counted"
	       : stats.calls == (unsigned long)atomic_load(&calls_made) ? "right"
									: "wrong",
	       (int)stats.most_at_once);
	fflush(stdout);
	return NULL;
}

/* The rest of the child, in its main thread. */
static void play_child(void)
{
	pthread_t other;

	if (is(order, "alone")) {
		make_call(&main_player, NULL);
		start(&second, go_on);
		pthread_join(second.thread, NULL);
		print_in_time("child");
		_exit(0);
	}
	if (second_entered < 0) {
		make_call(&main_player, NULL);
		start_second();
	}
	/* It waited for main: now it is inside. */
	while (!atomic_load(&second.has_entered))
		sched_yield();
	atomic_store(&main_player.id, 0);
	atomic_store(&main_player.has_entered, 0);
	pthread_create(&other, NULL, second_leaves, NULL);
	make_call(&main_player, NULL);
	pthread_join(other, NULL);
	pthread_join(second.thread, NULL);
	print_in_time("child");
	atomic_store(&main_player.id, 0);
	atomic_store(&main_player.has_entered, 0);
	pthread_create(&other, NULL, third_comes, NULL);
	make_call(&main_player, end_here);
}

static void make_child_here(void)
{
	if (is(state, "mine"))
		make_child();
}

static void *holder_leaves(void *unused)
{
	pid_t id;

	while (!(id = atomic_load(&vforked.id)))
		sched_yield();
	/* The child is another process. */
	char path[64], text[8] = "", wanted[8];
	snprintf(path, sizeof path, "/proc/%d/syscall", (int)id);
	snprintf(wanted, sizeof wanted, "%d ", SYS_futex);
	while (!atomic_load(&vforked.has_entered) && strncmp(text, wanted, strlen(wanted))) {
		int file = open(path, O_RDONLY | O_CLOEXEC);
		if (file >= 0 && read(file, text, sizeof text - 1) < 0)
			text[0] = 0;
		close(file);
		sched_yield();
	}
	sem_post(&holder.go);
	return unused;
}

static int make_vfork_child(void)
{
	pthread_t other = 0;
	int status = -1;

	if (is(state, "other") || is(state, "waiting"))
		pthread_create(&other, NULL, holder_leaves, NULL);
	pid_t child = vfork();
	if (!child) {
		make_call(&vforked, NULL);
		_exit(0);
	}
	me = &main_player;
	if (child < 0 || waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "children: the vfork child: status %#x\n", status);
		return 1;
	}
	if (other)
		pthread_join(other, NULL);
	return 0;
}

/* Answers madvise(MADV_WIPEONFORK), and perhaps kcmp, in the place of the kernel. */
static void simulate_kernel(void)
{
	unsigned int answer = is(wipe, "works") ? SECCOMP_RET_ALLOW
			      : !strncmp(wipe, "refused", 7) ? SECCOMP_RET_ERRNO | EINVAL
							     : SECCOMP_RET_ERRNO;
	unsigned int kcmp = strstr(wipe, "-kcmp") ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kcmp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, kcmp),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};

	if (is(wipe, "works"))
		return;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("children: seccomp");
		_exit(2);
	}
}

/* Before the constructors of all libraries. */
static void before_all(int argc, char **argv)
{
	if (argc > 2 && is(argv[2], "last"))
		pthread_atfork(NULL, NULL, handler);
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **) = before_all;

int main(int argc, char **argv)
{
	struct player *const players[] = {&main_player, &holder, &waiter, &second, &third, &vforked};
	int problem = 0;

	if (argc != 6) {
		fprintf(stderr, "usage: children CALL WAY STATE ORDER WIPE\n");
		return 2;
	}
	call = argv[1], way = argv[2], state = argv[3], order = argv[4], wipe = argv[5];
	simulate_kernel();
	if (is(way, "first"))
		pthread_atfork(NULL, NULL, handler);
	for (int i = 0; i < 6; i++) {
		players[i]->pd = open_pd(linked_verbs(), i);
		sem_init(&players[i]->go, 0, 0);
	}
	if (!is(state, "unused"))
		make_call(&main_player, NULL);
	if (is(state, "other") || is(state, "waiting")) {
		start(&holder, go_and_stay);
		until_inside_or_asleep(&holder);
	}
	if (is(state, "waiting")) {
		start(&waiter, go_on);
		until_inside_or_asleep(&waiter);
	}
	if (is(way, "vfork"))
		problem = make_vfork_child();
	else if (is(state, "mine"))
		make_call(&main_player, make_child_here);
	else
		make_child();
	if (is_child)
		play_child();

	sem_post(&holder.go);
	if (holder.thread)
		pthread_join(holder.thread, NULL);
	if (waiter.thread)
		pthread_join(waiter.thread, NULL);
	make_call(&main_player, NULL);
	print_in_time("parent");
	return problem;
}
