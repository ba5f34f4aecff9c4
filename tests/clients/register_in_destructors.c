/*
 * Registers where a process begins and ends: in a constructor; in the destructors of a
 * thread's own variables, those of pthread_key_create and those of C++; in an atexit
 * handler and in a destructor. Other threads register until the process ends.
 */
#include "inside_registration.h"

extern void *__dso_handle;
int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);

static struct ibv_pd *pd;
static int calls;
static struct caller others[3];

static void register_and_count(void *unused)
{
	(void)unused;
	register_once(pd);
	calls++;
}

static void *keep_registering(void *own_pd)
{
	for (;;)
		register_once(own_pd);
	return NULL;
}

__attribute__((constructor)) static void constructor(void)
{
	pd = open_pd(linked_verbs(), 0);
	register_and_count(NULL);
	for (int i = 0; i < 3; i++) {
		others[i].pd = open_pd(linked_verbs(), i + 1);
		if (pthread_create(&others[i].thread, NULL, keep_registering, others[i].pd))
			_exit(1);
	}
}

static void at_exit(void) { register_and_count(NULL); }

__attribute__((destructor)) static void destructor(void)
{
	register_and_count(NULL);
	printf("register_in_destructors: %d calls\n", calls);
	fflush(stdout);
}

static void *thread(void *key)
{
	pthread_setspecific(*(pthread_key_t *)key, key);
	__cxa_thread_atexit_impl(register_and_count, NULL, &__dso_handle);
	return NULL;
}

int main(void)
{
	pthread_key_t key;
	pthread_t threads[8];

	atexit(at_exit);
	if (pthread_key_create(&key, register_and_count))
		return 1;
	for (int i = 0; i < 8; i++) {
		if (pthread_create(&threads[i], NULL, thread, &key))
			return 1;
		pthread_join(threads[i], NULL);
	}
	return 0;
}
