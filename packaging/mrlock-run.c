/*
 * mrlock-run [OPTION]... COMMAND [ARGUMENT]...
 *
 * Runs COMMAND with libmrlock.so preloaded, or says why that cannot be. See mrlock-run(1).
 *
 * No shell script: dash drops environment variables whose names have dots or dashes in them, and containers have those.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Exit statuses, as env(1) has them. */
enum { REFUSED = 125, CANNOT_RUN = 126, NOT_FOUND = 127 };

/* A script may be run by a script. The kernel gives up soon after. */
enum { SCRIPTS_AT_MOST = 5 };

static const char help[] =
	"Usage: mrlock-run [OPTION]... COMMAND [ARGUMENT]...\n"
	"Runs COMMAND with libmrlock.so preloaded: one thread at a time registers RDMA memory.\n"
	"\n"
	"  --gpu                 serialize GPU memory only, and its freeing too\n"
	"  --report[=FILE]       at exit, say on stderr or in FILE what happened\n"
	"  --calls LIST          what to serialize: reg, dereg, free\n"
	"  --hooks LIST          where to catch it: verbs, ioctl\n"
	"  --log LEVEL           off, error, warn, info, debug or trace\n"
	"  --warn-after SECONDS  after how long inside a call is named; 0 = never\n"
	"  --help, --version     say this, or the version, and end\n"
	"\n"
	"The exit status is COMMAND's own; or 125 if mrlock-run refuses, 126 if COMMAND cannot be run, 127 if there is none.\n";

static const struct option options[] = {
	{"report", optional_argument, NULL, 0},
	{"calls", required_argument, NULL, 1},
	{"hooks", required_argument, NULL, 2},
	{"log", required_argument, NULL, 3},
	{"warn-after", required_argument, NULL, 4},
	{"gpu", no_argument, NULL, 'g'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

/* What each of the first options sets. */
static const char *const variables[] = {
	"MRLOCK_REPORT", "MRLOCK_CALLS", "MRLOCK_HOOKS", "MRLOCK_LOG", "MRLOCK_WARN_AFTER",
};
enum { VARIABLES = sizeof variables / sizeof *variables };

__attribute__((format(printf, 2, 3), noreturn)) static void stop(int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("mrlock-run: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	exit(status);
}

__attribute__((noreturn)) static void stop_for_errno(const char *name)
{
	stop(errno == ENOENT ? NOT_FOUND : CANNOT_RUN, "%s: %s", name, strerror(errno));
}

/* Beside this program, or where `make install` put it from there. */
static const char *find_library(void)
{
	static char library[PATH_MAX + sizeof "/libmrlock.so.0"];
	static const char *const places[] = {".", LIBRARY_FROM_HERE};
	char here[PATH_MAX], place[PATH_MAX + sizeof "/" LIBRARY_FROM_HERE];

	if (!realpath("/proc/self/exe", here) && !realpath((const char *)getauxval(AT_EXECFN), here))
		stop(REFUSED, "/proc/self/exe: %s", strerror(errno));
	*strrchr(here, '/') = '\0';
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		sprintf(place, "%s/%s", here, places[i]);
		if (!realpath(place, library))
			continue;
		strcat(library, "/libmrlock.so.0");
		if (access(library, F_OK) == 0)
			return library;
	}
	stop(REFUSED, "%s: no libmrlock.so.0 here or in %s", here, LIBRARY_FROM_HERE);
}

/* Loads the library into this process: the loader's own message says best what is wrong with it. */
static void try_to_load(const char *library)
{
	char **environment = environ, *empty[] = {NULL};

	if (strpbrk(library, " :"))
		stop(REFUSED, "%s: LD_PRELOAD takes no path with a blank or a colon: move the library", library);
	/* The settings are for COMMAND: the library must not read them here. */
	environ = empty;
	if (!dlopen(library, RTLD_NOW | RTLD_LOCAL))
		stop(REFUSED, "the library cannot be loaded: %s", dlerror());
	environ = environment;
}

/* The file that execvp(3) would run. */
static const char *find_program(const char *command)
{
	static char program[PATH_MAX];
	const char *path = getenv("PATH");
	struct stat status;
	int error = ENOENT;

	if (strchr(command, '/') || !*command)
		return command;
	for (const char *end = path = path ? path : "/bin:/usr/bin";; path = end + 1) {
		end = strchrnul(path, ':');
		/* An empty entry is the current directory. */
		const char *slash = path == end ? "./" : "/";
		int length = snprintf(program, sizeof program, "%.*s%s%s", (int)(end - path), path, slash, command);
		if (length < (int)sizeof program && stat(program, &status) == 0 && S_ISREG(status.st_mode)) {
			if (access(program, X_OK) == 0)
				return program;
			error = errno;
		}
		if (!*end)
			break;
	}
	errno = error;
	stop_for_errno(command);
}

/* Stops if the loader would ignore LD_PRELOAD in `program`, because it has privileges that its user does not have. */
static void look_at_privileges(const char *program, const struct stat *status)
{
	/* The set-gid bit counts only if the group may execute it. If the user gains nothing, the loader honours LD_PRELOAD. */
	int set_gid = (status->st_mode & S_ISGID) && (status->st_mode & S_IXGRP);
	int gains = ((status->st_mode & S_ISUID) && status->st_uid != getuid()) || (set_gid && status->st_gid != getgid());

	if (gains && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		stop(REFUSED, "%s: set-uid or set-gid: the loader ignores LD_PRELOAD", program);
	/* With no_new_privs it gets no capabilities, but the loader ignores LD_PRELOAD all the same. */
	if (getuid() != 0 && getxattr(program, "security.capability", NULL, 0) > 0)
		stop(REFUSED, "%s: has file capabilities: the loader ignores LD_PRELOAD", program);
}

/* Stops if the loader that `program` asks for cannot load the library. */
static void look_at_loader(const char *program, int file)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	char loader[PATH_MAX] = "";

	if (pread(file, &header, sizeof header, 0) != sizeof header || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_machine != EM_X86_64)
		stop(REFUSED, "%s: no 64-bit x86 program: the library cannot be loaded into it", program);
	for (size_t i = 0; i < header.e_phnum; i++) {
		if (pread(file, &segment, sizeof segment, header.e_phoff + i * sizeof segment) != sizeof segment)
			return; /* the kernel will not take it either */
		if (segment.p_type != PT_INTERP)
			continue;
		if (segment.p_filesz >= sizeof loader ||
		    pread(file, loader, segment.p_filesz, segment.p_offset) != (ssize_t)segment.p_filesz)
			return;
		/* glibc's has several names. */
		const char *name = strrchr(loader, '/');
		if (strncmp(name ? name + 1 : loader, "ld-musl", strlen("ld-musl")) == 0)
			stop(REFUSED, "%s: not a glibc program, its loader is %s", program, loader);
		return;
	}
	/* An init process for containers, or a loader that is called as a program: only the programs that it runs matter. */
	fprintf(stderr, "mrlock-run: warning: %s: statically linked: the library is loaded only into what it runs\n", program);
}

/* Stops if `program`, or what interprets it, would run without the library. */
static void look_at(const char *program, int scripts)
{
	char start[PATH_MAX] = "";
	struct stat status;
	int file = open(program, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (file < 0 && errno == EACCES && access(program, X_OK) == 0 && stat(program, &status) == 0) {
		/* The user may run it but not read it. It is no script: an interpreter would have to read that. */
		look_at_privileges(program, &status);
		return;
	}
	if (file < 0 || fstat(file, &status) || pread(file, start, sizeof start - 1, 0) < 0)
		stop_for_errno(program);

	if (strncmp(start, "#!", 2) == 0 && scripts < SCRIPTS_AT_MOST) {
		char *interpreter = start + 2 + strspn(start + 2, " \t");
		interpreter[strcspn(interpreter, " \t\n")] = '\0';
		look_at(interpreter, scripts + 1);
	} else if (memcmp(start, ELFMAG, SELFMAG) == 0) {
		look_at_privileges(program, &status);
		look_at_loader(program, file);
	}
	close(file);
}

static void set(const char *variable, const char *value)
{
	if (setenv(variable, value, 1))
		stop(REFUSED, "%s: %s", variable, strerror(errno));
}

int main(int argc, char **argv)
{
	static char name[] = "mrlock-run";
	const char *values[VARIABLES] = {NULL};
	const char *others = getenv("LD_PRELOAD");
	int gpu = 0;
	char *list;
	int option;

	if (argc > 0)
		argv[0] = name; /* what getopt_long's messages begin with */
	/* "+": the options after COMMAND are COMMAND's. */
	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option == 'h')
			return fputs(help, stdout) < 0;
		if (option == 'v')
			return puts("mrlock-run " VERSION) < 0;
		if (option == '?')
			return REFUSED;
		if (option == 'g')
			gpu = 1;
		else
			values[option] = optarg ? optarg : "stderr";
	}
	if (optind >= argc)
		stop(REFUSED, "no COMMAND; see mrlock-run --help");

	const char *library = find_library();
	try_to_load(library);
	const char *program = find_program(argv[optind]);
	look_at(program, 0);

	if (gpu) {
		set("MRLOCK_MEMORY", "device");
		set("MRLOCK_CALLS", "reg,dereg,free");
	}
	for (int i = 0; i < VARIABLES; i++)
		if (values[i])
			set(variables[i], values[i]);
	if (asprintf(&list, "%s%s%s", library, others && *others ? ":" : "", others ? others : "") < 0)
		stop(REFUSED, "LD_PRELOAD: %s", strerror(errno));
	set("LD_PRELOAD", list);
	execvp(program, argv + optind);
	stop_for_errno(program);
}
