/*
 * Uses mrlock if the process has it, without being linked to it. Compiles as C++, too.
 */
#define MRLOCK_WEAK
#include <mrlock.h>
#include <stdio.h>

int main(void)
{
	struct mrlock_snapshot stats;
	int early = mrlock_unlock();
	int locked = mrlock_lock();
	int unlocked = mrlock_unlock();
	int snapshot = mrlock_stats(MRLOCK_ALL, &stats, sizeof stats);

	printf("%d %d %d %d %d '%s'\n", early, locked, unlocked, snapshot, mrlock_active(),
	       mrlock_version());
	return 0;
}
