/*
 * Leaves a scope with two guards by an exception. Prints what mrlock_unlock() returned in the scope and after it.
 */
#define MRLOCK_WEAK
#include <cstdio>
#include <mrlock.h>
#include <type_traits>

static_assert(!std::is_copy_constructible<mrlock_guard>::value, "one lock, one unlock");
static_assert(!std::is_copy_assignable<mrlock_guard>::value, "one lock, one unlock");

int main()
{
	int inside = -1;

	try {
		mrlock_guard guard;
		mrlock_guard nested;
		inside = mrlock_unlock() | mrlock_unlock() | mrlock_lock() | mrlock_lock();
		throw inside;
	} catch (int) {
	}
	std::printf("%d %d\n", inside, mrlock_unlock());
}
