//! The kernel and errno: raw system calls, and the clock.
//!
//! No system call here is a cancellation point, changes errno, or passes a function that another preloaded library may replace.

use crate::base::{processor::system_call, text::Text};
use core::{
    ffi::{CStr, c_int},
    fmt::{self, Write},
    mem::MaybeUninit,
    ptr,
};

/// `syscall!(NAME, argument, ...)`: the system call of that name; see `processor::system_call`.
macro_rules! syscall {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        $crate::base::sys::raw(libc::$name, &[$($argument as usize),*])
    };
}

/// The system call `number` with up to six arguments; the others are 0.
///
/// # Safety
///
/// As for that system call.
#[inline(always)]
pub unsafe fn raw(number: libc::c_long, given: &[usize]) -> isize {
    let mut arguments = [0; 6];
    for (argument, given) in arguments.iter_mut().zip(given) {
        *argument = *given;
    }
    // SAFETY: passed on to the caller.
    unsafe { system_call(number, arguments) }
}

/// An error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(c_int);

impl Errno {
    /// "Resource temporarily unavailable".
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    /// "Bad file descriptor".
    pub const EBADF: Self = Self(libc::EBADF);
    /// "Bad address".
    pub const EFAULT: Self = Self(libc::EFAULT);
    /// "File exists".
    pub const EEXIST: Self = Self(libc::EEXIST);
    /// "Invalid argument".
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// "No such device".
    pub const ENODEV: Self = Self(libc::ENODEV);
    /// "Operation not supported".
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// "Function not implemented".
    pub const ENOSYS: Self = Self(libc::ENOSYS);
    /// "No such process", or no such thread.
    pub const ESRCH: Self = Self(libc::ESRCH);
    /// "Connection timed out": a sleep that ended by its deadline.
    pub const ETIMEDOUT: Self = Self(libc::ETIMEDOUT);

    /// The error that a system call returned, if it did.
    pub fn of(result: isize) -> Option<Self> {
        c_int::try_from(result.checked_neg()?)
            .ok()
            .filter(|code| (1..4096).contains(code))
            .map(Self)
    }

    /// The calling thread's errno.
    pub fn save() -> Self {
        // SAFETY: libc's errno location is valid for the life of the calling thread.
        Self(unsafe { *libc::__errno_location() })
    }

    /// Runs `body`, which may change errno, and restores errno.
    pub fn preserve<R>(body: impl FnOnce() -> R) -> R {
        let before = Self::save();
        let result = body();
        before.restore();
        result
    }

    /// Makes this the value that the caller will see.
    pub fn restore(self) {
        // SAFETY: as in `save`.
        unsafe { *libc::__errno_location() = self.0 }
    }

    /// Sets errno to `code`.
    pub fn set(code: c_int) {
        Self(code).restore();
    }
}

/// The number and, for common errors, the text of strerror(3). It does not call strerror(), which may translate and so allocate.
impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let meaning = match self.0 {
            libc::EACCES => "Permission denied",
            libc::EAGAIN => "Resource temporarily unavailable",
            libc::EBADF => "Bad file descriptor",
            libc::EDQUOT => "Disk quota exceeded",
            libc::EFBIG => "File too large",
            libc::EISDIR => "Is a directory",
            libc::ELOOP => "Too many levels of symbolic links",
            libc::EMFILE => "Too many open files",
            libc::ENFILE => "Too many open files in system",
            libc::ENAMETOOLONG => "File name too long",
            libc::ENOENT => "No such file or directory",
            libc::ENOSPC => "No space left on device",
            libc::ENOTDIR => "Not a directory",
            libc::ENXIO => "No such device or address",
            libc::EPIPE => "Broken pipe",
            libc::EPERM => "Operation not permitted",
            libc::EROFS => "Read-only file system",
            code => return write!(formatter, "errno {code}"),
        };
        write!(formatter, "errno {}: {meaning}", self.0)
    }
}

/// The id of this process.
pub fn process_id() -> libc::pid_t {
    // SAFETY: no preconditions; it cannot fail.
    unsafe { syscall!(SYS_getpid) as libc::pid_t }
}

/// The name that the kernel has for this program: at most 15 bytes.
pub fn program_name() -> ProgramName {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last of them NUL.
    unsafe { syscall!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr()) };
    ProgramName(name)
}

/// See `program_name`.
pub struct ProgramName([u8; 16]);

impl ProgramName {
    /// Its bytes.
    pub fn to_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// The id of the calling thread.
pub fn thread_id() -> u64 {
    // SAFETY: no preconditions; it cannot fail.
    unsafe { syscall!(SYS_gettid) as u64 }
}

/// Nanoseconds of CLOCK_MONOTONIC: the kernel's own clock, even if another library shows a different clock to the host.
#[inline(never)]
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// The number of the processor that the calling thread runs on; `None` if getcpu(2) fails, as in a sandbox.
pub fn processor() -> Option<u64> {
    let mut processor: libc::c_uint = 0;
    // SAFETY: `processor` is valid for writing; a null pointer is ignored.
    let result = unsafe { syscall!(SYS_getcpu, &raw mut processor, 0, 0) };
    Errno::of(result).is_none().then_some(processor.into())
}

/// Nanoseconds of `clock`, which exists.
pub fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing. The clock exists, so the call cannot fail.
    unsafe { syscall!(SYS_clock_gettime, clock, &raw mut time) };
    nanoseconds(time)
}

/// A time in nanoseconds.
pub fn nanoseconds(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * NS_PER_S + time.tv_nsec as u64
}

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// Sleeps for some 50 us, or until a signal arrives. (sched_yield() would not let a thread of lower priority run.)
pub fn nap() {
    let never_changes = 0u32;
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 50_000,
    };
    // SAFETY: the word and the time are valid and aligned.
    unsafe {
        syscall!(
            SYS_futex,
            &raw const never_changes,
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            never_changes,
            &raw const time,
        )
    };
}

/// Runs `body` with the name of the host, as uname(2) gives it: in a container, the container's.
#[inline(never)]
pub fn with_host_name(body: impl FnOnce(&[u8])) {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `names` is valid for writing.
    unsafe { syscall!(SYS_uname, names.as_mut_ptr()) };
    // SAFETY: it was zeroed, and has only arrays of bytes: if the kernel has written nothing, the name is empty.
    let names = unsafe { names.assume_init_ref() };
    // SAFETY: the same bytes, as unsigned ones.
    let name = unsafe { &*(&raw const names.nodename).cast::<[u8; 65]>() };
    body(name.split(|&byte| byte == 0).next().unwrap_or_default());
}

/// The kernel's signal set: a bit for each of 64 signals.
type SignalSet = u64;

fn change_signal_mask(how: c_int, new: SignalSet) -> SignalSet {
    let mut old: SignalSet = 0;
    // SAFETY: both sets are valid and of the size given. It fails for a wrong `how` only.
    unsafe {
        syscall!(
            SYS_rt_sigprocmask,
            how,
            &raw const new,
            &raw mut old,
            size_of::<SignalSet>(),
        )
    };
    old
}

/// Runs `body` with all signals of this thread blocked.
pub fn without_signals(body: impl FnOnce()) {
    let before = change_signal_mask(libc::SIG_SETMASK, SignalSet::MAX);
    body();
    change_signal_mask(libc::SIG_SETMASK, before);
}

/// The device and the inode number of an open file, which together identify it.
#[inline(never)]
pub fn file_id(descriptor: c_int) -> Result<[u64; 2], Errno> {
    status(descriptor).map(|file| [file.st_dev, file.st_ino])
}

fn status(descriptor: c_int) -> Result<libc::stat, Errno> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` is valid for writing.
    let result = unsafe { syscall!(SYS_fstat, descriptor, status.as_mut_ptr()) };
    if let Some(error) = Errno::of(result) {
        return Err(error);
    }
    // SAFETY: fstat() has succeeded, so it has written all of it.
    Ok(unsafe { status.assume_init() })
}

/// Closes a descriptor of ours.
pub fn close(descriptor: c_int) {
    // SAFETY: the descriptor is ours.
    unsafe { syscall!(SYS_close, descriptor) };
}

/// Another descriptor of the same file: the first free one from `least` on.
pub fn duplicate(descriptor: c_int, least: c_int) -> Result<c_int, Errno> {
    // SAFETY: it changes nothing that is in use.
    let result = unsafe { syscall!(SYS_fcntl, descriptor, libc::F_DUPFD_CLOEXEC, least) };
    Errno::of(result).map_or(Ok(result as c_int), Err)
}

/// The number of the device that this open file is; 0 if it is none.
pub fn device_number(descriptor: c_int) -> u64 {
    status(descriptor).map_or(0, |file| file.st_rdev)
}

/// The inode number of the file with this name, if there is one. Follows links.
pub fn inode(path: &CStr) -> Option<u64> {
    status_of_name(path.to_bytes_with_nul(), 0).map(|file| file.st_ino)
}

/// Whether the NUL-terminated name `path` is that of a directory, a device, a pipe or a socket. Follows links.
pub fn is_special(path: &[u8]) -> bool {
    status_of_name(path, 0).is_some_and(|file| file.st_mode & libc::S_IFMT != libc::S_IFREG)
}

/// The owner of the symbolic link with the NUL-terminated name `path`; `None` if there is no such link.
pub fn owner_of_link(path: &[u8]) -> Option<libc::uid_t> {
    let status = status_of_name(path, libc::AT_SYMLINK_NOFOLLOW)?;
    (status.st_mode & libc::S_IFMT == libc::S_IFLNK).then_some(status.st_uid)
}

/// The status of the file with the NUL-terminated name `path`, if there is one.
fn status_of_name(path: &[u8], flags: c_int) -> Option<libc::stat> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is NUL-terminated, and `status` is valid for writing.
    let result = unsafe {
        syscall!(
            SYS_newfstatat,
            libc::AT_FDCWD,
            path.as_ptr(),
            status.as_mut_ptr(),
            flags,
        )
    };
    if Errno::of(result).is_some() {
        return None;
    }
    // SAFETY: as in `status`.
    Some(unsafe { status.assume_init() })
}

/// The user whose permissions this process has.
pub fn effective_user() -> libc::uid_t {
    // SAFETY: no preconditions; it cannot fail.
    unsafe { syscall!(SYS_geteuid) as libc::uid_t }
}

/// Writes the path of the working directory to `buffer`, without a NUL. Returns its length; 0 if there is no path, or it does not
/// fit.
pub fn working_directory(buffer: &mut [u8]) -> usize {
    // SAFETY: the buffer is valid for writing, and has this length.
    let length = unsafe { syscall!(SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    // The length includes a NUL. The path of a directory that cannot be reached from the root begins with "(unreachable)".
    match usize::try_from(length) {
        Ok(length @ 2..) if buffer.first() == Some(&b'/') => length - 1,
        _ => 0,
    }
}

/// Whether `descriptor` would take so many bytes at once; at most a page, if it is a pipe.
pub fn can_write_now(descriptor: c_int, length: usize) -> bool {
    let mut poll = libc::pollfd {
        fd: descriptor,
        events: libc::POLLOUT,
        revents: 0,
    };
    let mut at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let (one, no_mask) = (1, ptr::null::<SignalSet>());
    // SAFETY: `poll` is valid for reading and writing, the time for reading (and the kernel may write it); the mask is optional.
    let ready = unsafe { syscall!(SYS_ppoll, &raw mut poll, one, &raw mut at_once, no_mask) };
    ready == 1
        && poll.revents & libc::POLLOUT != 0
        && (type_of(descriptor) != libc::S_IFIFO || room_of_pipe(descriptor) >= length)
}

/// The file type bits of an open file's mode; 0 if they are not known.
pub fn type_of(descriptor: c_int) -> libc::mode_t {
    status(descriptor).map_or(0, |file| file.st_mode & libc::S_IFMT)
}

/// Whether this descriptor was opened for reading alone.
pub fn is_read_only(descriptor: c_int) -> bool {
    // SAFETY: it changes nothing.
    let flags = unsafe { syscall!(SYS_fcntl, descriptor, libc::F_GETFL) };
    Errno::of(flags).is_none() && flags as c_int & libc::O_ACCMODE == libc::O_RDONLY
}

/// How many bytes a pipe can take. (gVisor's poll() also says of a pipe that has less room than a page that it can be written to.)
fn room_of_pipe(descriptor: c_int) -> usize {
    let mut used: c_int = 0;
    // SAFETY: the first changes nothing; for the second, `used` is valid for writing.
    let size = unsafe {
        let size = syscall!(SYS_fcntl, descriptor, libc::F_GETPIPE_SZ);
        syscall!(SYS_ioctl, descriptor, libc::FIONREAD, &raw mut used);
        size
    };
    usize::try_from(size)
        .unwrap_or(0)
        .saturating_sub(used as usize)
}

/// Another descriptor of this file, which is not a pipe: a write to it does not wait. The error is that of open(2).
pub fn open_without_waiting(descriptor: c_int) -> Result<c_int, Errno> {
    let mut path = Text::<32>::new();
    let _ = write!(path, "/proc/self/fd/{descriptor}\0");
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let file = unsafe { syscall!(SYS_openat, libc::AT_FDCWD, path.as_bytes().as_ptr(), flags) };
    Errno::of(file).map_or(Ok(file as c_int), Err)
}

/// Writes `bytes` to `descriptor`, in one piece if it takes as many. The error is that of write(2).
pub fn write(descriptor: c_int, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the bytes are valid for the length given.
        let written = without_write_signals(|| unsafe {
            syscall!(SYS_write, descriptor, rest.as_ptr(), rest.len())
        });
        if let Some(error) = Errno::of(written) {
            return Err(error);
        }
        // If a part was written, the next write succeeds, or says why not all was.
        rest = usize::try_from(written)
            .ok()
            .filter(|&written| written > 0)
            .and_then(|written| rest.get(written..))
            .ok_or(Errno(libc::ENOSPC))?;
    }
    Ok(())
}

/// Takes room for `length` bytes on the disk, for a file that is open for writing, and makes it as long.
pub fn allocate(descriptor: c_int, length: usize) -> Result<(), Errno> {
    let (mode, from) = (0, 0);
    // SAFETY: it changes only the file.
    let result = without_write_signals(|| unsafe {
        syscall!(SYS_fallocate, descriptor, mode, from, length)
    });
    Errno::of(result).map_or(Ok(()), Err)
}

/// Makes a system call that writes to a file. The host gets no SIGPIPE if the pipe has no reader, and no SIGXFSZ if the file has
/// reached its size limit.
fn without_write_signals(call: impl FnOnce() -> isize) -> isize {
    let signals: SignalSet = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
    let before = change_signal_mask(libc::SIG_BLOCK, signals);
    let mut pending: SignalSet = 0;
    // SAFETY: the set is valid and of the size given.
    unsafe { syscall!(SYS_rt_sigpending, &raw mut pending, size_of::<SignalSet>()) };
    let result = call();
    // A signal that was pending before is the host's. Ours can be pending if the call has failed, or has written only a part.
    let ours = signals & !pending;
    if ours != 0 {
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let no_details = ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: as above; the details are optional.
        unsafe {
            syscall!(
                SYS_rt_sigtimedwait,
                &raw const ours,
                no_details,
                &raw const at_once,
                size_of::<SignalSet>(),
            )
        };
    }
    change_signal_mask(libc::SIG_SETMASK, before);
    result
}

/// The size of a page: 4096 bytes on x86_64; on arm64, the kernel decides between that, 16 KiB and 64 KiB.
pub fn page_size() -> usize {
    // The kernel tells each process.
    // SAFETY: getauxval() has no preconditions.
    let size = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
    size.max(4096)
}

/// Whether the bytes at these addresses of this process can be read, without reading them through a pointer. The error says why
/// the kernel did not answer: for example, EPERM under an old seccomp profile.
pub fn are_readable(addresses: [usize; 2]) -> Result<bool, Errno> {
    copy_pieces(addresses, 1, &mut [0; 2])
}

/// Copies the bytes at `address` of this process, as `are_readable` would look; `Ok(false)` if they cannot be read.
pub fn copy(address: usize, to: &mut [u8]) -> Result<bool, Errno> {
    copy_pieces([address], to.len(), to)
}

/// Copies `length` bytes from each of the addresses, one behind the other, to the bytes of `to`, which are as many.
fn copy_pieces<const N: usize>(
    addresses: [usize; N],
    length: usize,
    to: &mut [u8],
) -> Result<bool, Errno> {
    let here = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let there = addresses.map(|address| libc::iovec {
        iov_base: core::ptr::without_provenance_mut(address),
        iov_len: length,
    });
    let (one, flags) = (1, 0);
    // SAFETY: `here` is valid for writing, and the kernel writes no more than that; it checks the addresses of the others.
    let copied = unsafe {
        syscall!(
            SYS_process_vm_readv,
            process_id(),
            &raw const here,
            one,
            there.as_ptr(),
            N,
            flags,
        )
    };
    match Errno::of(copied) {
        None => Ok(usize::try_from(copied) == Ok(to.len())),
        Some(Errno::EFAULT) => Ok(false),
        Some(error) => Err(error),
    }
}

/// Whether the four bytes at `address`, which is a multiple of four, can be read, by a system call that every libc needs. (A
/// futex(2) wait first reads the word, and fails if it cannot; the timeout of zero ends it at once otherwise.)
pub fn is_word_readable(address: usize) -> bool {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let unlikely = 0x6d72_6c6b;
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel checks the address, and changes nothing there.
    let result = unsafe { syscall!(SYS_futex, address, operation, unlikely, &raw const at_once,) };
    Errno::of(result) != Some(Errno::EFAULT)
}
