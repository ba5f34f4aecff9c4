/*
 * interrupted_wait: a thread is inside a registration, and another one waits. A signal interrupts the
 * wait; the handler registers one page, and deregisters it. Then the interrupted registration goes on.
 *
 * Prints where it is, and goes on when it gets a line:
 *     waiting N        thread N waits
 *     handler waits    the handler's registration waits, too
 *     handled          the handler has made its calls, and has not returned; no thread is inside
 */
#include "inside_registration.h"

#include <signal.h>

static struct ibv_pd *holders_pd, *handlers_pd;
static struct caller waiter;
static atomic_int is_handling;
static sem_t handled, returns;

static void say(const char *what, int number)
{
	char byte = 0;

	printf(number ? "%s %d\n" : "%s\n", what, number);
	fflush(stdout);
	while (byte != '\n' && read(0, &byte, 1) > 0)
		;
}

static void *register_and_hold(void *nothing)
{
	inside = hold;
	if (!ibv_reg_mr(holders_pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE))
		_exit(1);
	return nothing;
}

static void register_page(int signal)
{
	(void)signal;
	atomic_store(&is_handling, 1);
	struct ibv_mr *mr = ibv_reg_mr(handlers_pd, memory, 4096, IBV_ACCESS_LOCAL_WRITE);
	if (!mr || ibv_dereg_mr(mr))
		_exit(1);
	sem_post(&handled);
	while (sem_wait(&returns))
		;
}

int main(void)
{
	pthread_t holder;

	holders_pd = open_pd(linked_verbs(), 0);
	handlers_pd = open_pd(linked_verbs(), 2);
	signal(SIGUSR1, register_page);
	if (!holders_pd || !handlers_pd || pthread_create(&holder, NULL, register_and_hold, NULL))
		return 1;
	sem_wait(&entered);
	start_caller(&waiter, 1, NULL);
	until_asleep(&waiter.id);
	say("waiting", atomic_load(&waiter.id));

	pthread_kill(waiter.thread, SIGUSR1);
	while (!atomic_load(&is_handling))
		sched_yield();
	until_asleep(&waiter.id);
	say("handler waits", 0);

	sem_post(&released);
	pthread_join(holder, NULL);
	sem_wait(&handled);
	say("handled", 0);

	sem_post(&returns);
	pthread_join(waiter.thread, NULL);
	puts("done");
	return 0;
}
