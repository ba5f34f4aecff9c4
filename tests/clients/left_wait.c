/*
 * left_wait: a thread is inside a registration, and another one waits. A signal interrupts the wait, and the handler
 * leaves it by siglongjmp(). Then both threads register once more.
 */
#include "inside_registration.h"

#include <setjmp.h>
#include <signal.h>

static struct ibv_pd *pds[2];
static _Atomic pid_t waiter;
static sem_t left, goes_on;
static sigjmp_buf before;

static void leave(int signal)
{
	(void)signal;
	siglongjmp(before, 1);
}

static void *register_and_hold(void *nothing)
{
	inside = hold;
	register_once(pds[0]);
	return nothing;
}

static void *leave_and_register(void *nothing)
{
	if (!sigsetjmp(before, 1)) {
		atomic_store(&waiter, own_id());
		register_once(pds[1]);
		_exit(1); /* it has not waited */
	}
	sem_post(&left);
	while (sem_wait(&goes_on))
		;
	register_once(pds[1]);
	return nothing;
}

int main(void)
{
	pthread_t holding, leaving;

	pds[0] = open_pd(linked_verbs(), 0);
	pds[1] = open_pd(linked_verbs(), 1);
	signal(SIGUSR1, leave);
	if (!pds[0] || !pds[1] || pthread_create(&holding, NULL, register_and_hold, NULL))
		return 1;
	sem_wait(&entered);
	if (pthread_create(&leaving, NULL, leave_and_register, NULL))
		return 1;
	until_asleep(&waiter);
	pthread_kill(leaving, SIGUSR1);
	sem_wait(&left);
	sem_post(&released);
	pthread_join(holding, NULL);
	sem_post(&goes_on);
	pthread_join(leaving, NULL);
	register_once(pds[0]);
	puts("done");
	return 0;
}
