/*
 * Interrupts a thread before each instruction of what it runs, one at a time.
 *
 * The processor's trap flag interrupts it before all instructions, which takes some 10 us for
 * each in a virtual machine. That is done once, to record the instructions. Then a breakpoint
 * interrupts the thread before the wanted one. If it does not come there, because what takes
 * longer takes another way, the trap flag serves again.
 */
#ifndef EACH_INSTRUCTION_H
#define EACH_INSTRUCTION_H

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG 0x100
#define MOST_INSTRUCTIONS 100000

/* The instructions in order, shared with processes that are forked later. */
static struct {
	long length;
	unsigned long address[MOST_INSTRUCTIONS];
} *path;

/* Only instructions from here on, before there. */
static unsigned long first_instruction, last_instruction = -1ul;

/* What the handler does before the instruction with this number. */
static void (*interrupt_once)(void);
static long wanted;
static bool interrupted;

static bool by_flag;
static long seen;

static __thread bool stepped; /* this thread */
static unsigned long breakpoint;
static long visits_left;
static char replaced;
static int own_memory;

static atomic_flag changing;

/* Pages of code cannot be written to, but for this file. */
static void put(char byte)
{
	if (pwrite(own_memory, &byte, 1, (off_t)breakpoint) != 1)
		_exit(4);
}

/* Other threads run through the breakpoint. It is not there while one of them runs the instruction, and then this thread may pass. */
static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	unsigned long next = (unsigned long)registers[REG_RIP];
	bool now = false;

	(void)signal;
	if (by_flag) {
		if (next < first_instruction || next >= last_instruction)
			return;
		if (wanted < 0) {
			if (path->length == MOST_INSTRUCTIONS)
				_exit(4);
			path->address[path->length++] = next;
		} else if (seen++ == wanted) {
			registers[REG_EFL] &= ~TRAP_FLAG;
			interrupted = true;
			interrupt_once();
		}
		return;
	}
	while (atomic_flag_test_and_set(&changing))
		;
	if (info->si_code == TRAP_TRACE) {
		/* The instruction at the breakpoint has been run. */
		registers[REG_EFL] &= ~TRAP_FLAG;
		if (!interrupted)
			put('\xcc');
	} else {
		registers[REG_RIP] = (greg_t)(next - 1);
		put(replaced);
		now = stepped && --visits_left == 0;
		if (now)
			interrupted = true;
		else
			registers[REG_EFL] |= TRAP_FLAG;
	}
	atomic_flag_clear(&changing);
	/* From here on, the interrupted instruction may be in what is called. */
	if (now)
		interrupt_once();
}

static inline void set_trap_flag(bool on)
{
	unsigned long flags = __builtin_ia32_readeflags_u64() & ~(unsigned long)TRAP_FLAG;
	__builtin_ia32_writeeflags_u64(on ? flags | TRAP_FLAG : flags);
}

/* The interrupted code is between these two. They run the same instructions, with the flag and with a breakpoint. */
static inline void begin_steps(void)
{
	stepped = true;
	set_trap_flag(by_flag);
}

static inline void end_steps(void)
{
	set_trap_flag(false);
	stepped = false;
}

static inline void prepare_steps(void)
{
	const struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

	path = mmap(NULL, sizeof *path, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (path == MAP_FAILED || sigaction(SIGTRAP, &action, NULL))
		exit(1);
}

/* What is between begin_steps() and end_steps() is recorded. */
static inline void record(void)
{
	by_flag = true;
	wanted = -1;
	path->length = 0;
}

/* The action is run before that instruction. */
static inline void interrupt_before(long number, bool use_flag, void (*action)(void))
{
	interrupt_once = action;
	interrupted = false;
	wanted = number;
	by_flag = use_flag;
	seen = 0;
	if (by_flag)
		return;
	breakpoint = path->address[number];
	visits_left = 0;
	for (long i = 0; i <= number; i++)
		visits_left += path->address[i] == breakpoint;
	/* That of this process, which may have been forked. */
	if (own_memory)
		close(own_memory);
	own_memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (own_memory < 0 || pread(own_memory, &replaced, 1, (off_t)breakpoint) != 1)
		exit(4);
	put('\xcc');
}

/* Afterwards. Returns whether the action was run. */
static inline bool was_interrupted(void)
{
	if (!interrupted && !by_flag)
		put(replaced);
	return interrupted;
}

#endif
