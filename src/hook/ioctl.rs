//! `ioctl()`: the uverbs commands that pin or unpin memory.
//!
//! Since kernel 5.0 and rdma-core 22, libibverbs and its providers reach the kernel by `ioctl(fd, RDMA_VERBS_IOCTL, header)`,
//! called through their PLT, and so does a program that has them linked in. A call that comes here need not have passed a
//! verbs hook: NCCL takes its functions from a `dlopen` handle. (An older kernel or rdma-core sends the same commands by
//! `write()`, which is not hooked: only the verbs hooks catch those.)
//!
//! `ioctl` is called from everywhere, signal handlers and vfork children included. A request that is no uverbs command leaves
//! at once, by a compare and a jump: no lock, no allocation, no look-up, and no need for our constructor to have run.

use super::serialize::serialize;
use crate::{
    operation::{Kind, Layer, Operation, Region},
    policy,
    sys::Errno,
};
use core::{
    ffi::c_void,
    mem, ptr,
    sync::atomic::{AtomicPtr, Ordering},
};
use libc::{c_int, c_ulong};

/// `struct ib_uverbs_ioctl_hdr` of `<rdma/rdma_user_ioctl_cmds.h>`; the attributes follow it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    length: u16,
    object: u16,
    method: u16,
    attributes: u16,
    reserved_1: u64,
    driver: u32,
    reserved_2: u32,
}

/// `struct ib_uverbs_attr` of the same file.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attribute {
    id: u16,
    length: u16,
    flags: u16,
    reserved: u16,
    data: u64,
}

/// `_IOWR(RDMA_IOCTL_MAGIC, 1, struct ib_uverbs_ioctl_hdr)`. The kernel, too, looks at the low 32 bits of a request only.
const RDMA_VERBS_IOCTL: u32 = (3 << 30) | ((size_of::<Header>() as u32) << 16) | (0x1b << 8) | 1;

/// What a command is recognized by.
#[derive(Clone, Copy)]
enum Command {
    /// `UVERBS_METHOD_INVOKE_WRITE` of the device, with this `enum ib_uverbs_write_cmds` in `UVERBS_ATTR_WRITE_CMD`.
    Write(u64),
    /// A method of `UVERBS_OBJECT_MR`.
    Mr(u16),
    /// A method of mlx5's `MLX5_IB_OBJECT_DEVX_UMEM`.
    Mlx5Umem(u16),
}
use Command::{Mlx5Umem, Mr, Write};

/// What pins or unpins memory, the header that defines it, and the kernel that it came with.
///
/// Not here: `UVERBS_METHOD_REG_DMABUF_MR` (5.12), which imports the buffer from its exporter and never enters nvidia-peermem,
/// and the commands that create queues, whose rings are ordinary memory, which does not either. (Rings in GPU memory, as
/// in GPUDirect Async, are not covered.)
static TABLE: [(Command, Operation); 7] = [
    // <rdma/ib_user_verbs.h>, 5.0
    row(Write(9), Kind::Registration, "uverbs:REG_MR"),
    row(Write(11), Kind::Registration, "uverbs:REREG_MR"),
    row(Write(13), Kind::Deregistration, "uverbs:DEREG_MR"),
    // <rdma/ib_user_ioctl_cmds.h>, 5.0 and 6.17
    row(Mr(1), Kind::Deregistration, "uverbs:MR_DESTROY"),
    row(Mr(5), Kind::Registration, "uverbs:MR_REG"),
    // <rdma/mlx5_user_ioctl_cmds.h>, 4.19
    row(Mlx5Umem(0x1000), Kind::Registration, "mlx5:UMEM_REG"),
    row(Mlx5Umem(0x1001), Kind::Deregistration, "mlx5:UMEM_DEREG"),
];

const fn row(command: Command, kind: Kind, name: &'static str) -> (Command, Operation) {
    (command, Operation::new(name, kind, Layer::Ioctl))
}

/// The operations of this layer.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    TABLE.iter().map(|(_, operation)| operation)
}

export_ioctl!(RDMA_VERBS_IOCTL => uverbs, else NEXT);

/// The `ioctl` that a caller would have reached without us. Until `find_next` has run, the system call itself, which is
/// all that libc's is.
static NEXT: AtomicPtr<c_void> = AtomicPtr::new(system_call as *mut c_void);

/// Looks up the next definition of `ioctl`: libc's, or that of another preloaded library.
pub fn find_next() {
    // SAFETY: the name is NUL-terminated.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"ioctl".as_ptr()) };
    if !next.is_null() {
        // Relaxed: either value is good.
        NEXT.store(next, Ordering::Relaxed);
    }
}

extern "C" fn system_call(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's own arguments, as it would hand them to libc's ioctl.
    unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) as c_int }
}

extern "C" fn uverbs(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let call = || {
        // SAFETY: the pointer was made from a function of this type, or is libc's ioctl, which takes the same.
        // Relaxed: as in `find_next`.
        let next: extern "C" fn(c_int, c_ulong, *mut c_void) -> c_int =
            unsafe { mem::transmute(NEXT.load(Ordering::Relaxed)) };
        next(fd, request, argument)
    };
    if !policy::catches(Layer::Ioctl) {
        return call();
    }
    match recognize(argument) {
        Some(operation) => serialize(operation, Region::UNKNOWN, call),
        None => call(),
    }
}

/// The operation that the request at `argument` asks for, if it is one of the table. Reads the header and the attributes that
/// it announces, as far as they can be read: the kernel refuses what is malformed.
fn recognize(argument: *const c_void) -> Option<&'static Operation> {
    let start = argument as usize;
    if !is_readable(start, start.checked_add(size_of::<Header>())?) {
        return None;
    }
    let header: *const Header = argument.cast();
    // SAFETY: readable, as just seen; alignment is not asked for.
    let request = unsafe { header.read_unaligned() };
    let Header {
        length,
        object,
        method,
        attributes,
        driver,
        ..
    } = request;
    // What the kernel insists on before it reads on.
    let expected = size_of::<Header>() + usize::from(attributes) * size_of::<Attribute>();
    if usize::from(length) != expected || !is_readable(start, start.checked_add(expected)?) {
        return None;
    }
    let attribute = |index: u16| {
        let first: *const Attribute = header.wrapping_add(1).cast();
        // SAFETY: within the `expected` bytes that are readable, as just seen.
        unsafe { first.add(usize::from(index)).read_unaligned() }
    };
    let write_command = || {
        let command = (0..attributes)
            .map(attribute)
            .find(|attribute| attribute.id == UVERBS_ATTR_WRITE_CMD);
        command.map(|attribute| attribute.data)
    };
    let matches = |command: &Command| match *command {
        Write(wanted) => {
            (object, method) == (UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE)
                && write_command() == Some(wanted)
        }
        Mr(wanted) => (object, method) == (UVERBS_OBJECT_MR, wanted),
        // A driver's numbers mean something else with another driver.
        Mlx5Umem(wanted) => {
            (driver, object, method) == (RDMA_DRIVER_MLX5, MLX5_IB_OBJECT_DEVX_UMEM, wanted)
        }
    };
    TABLE
        .iter()
        .find(|(command, _)| matches(command))
        .map(|(_, operation)| operation)
}

// <rdma/ib_user_ioctl_cmds.h>, <rdma/mlx5_user_ioctl_cmds.h>, <rdma/ib_user_ioctl_verbs.h>
const UVERBS_OBJECT_DEVICE: u16 = 0;
const UVERBS_METHOD_INVOKE_WRITE: u16 = 0;
const UVERBS_ATTR_WRITE_CMD: u16 = 2;
const UVERBS_OBJECT_MR: u16 = 7;
const MLX5_IB_OBJECT_DEVX_UMEM: u16 = 0x1002;
const RDMA_DRIVER_MLX5: u32 = 1;

/// Whether the kernel could read all from `start` to before `end`, which are a header or more apart. A caller that passes an
/// address where nothing is gets EFAULT from the kernel, and must not die of our looking first.
fn is_readable(start: usize, end: usize) -> bool {
    const PAGE: usize = 4096;
    // What can be read is decided page by page: one word of each will do.
    let last_word = end - size_of::<u64>();
    let mut word = start;
    loop {
        if !is_word_readable(word) {
            return false;
        }
        if word == last_word || word / PAGE == (end - 1) / PAGE {
            return true;
        }
        word = last_word.min((word / PAGE + 1) * PAGE);
    }
}

/// Lets the kernel read the eight bytes at `address`.
fn is_word_readable(address: usize) -> bool {
    const NO_SUCH_HOW: c_int = -1;
    // The kernel reads a signal mask from there (but takes NULL for none), and only then finds that it does not know what to
    // do with it: EINVAL.
    // SAFETY: the kernel checks the address, and nothing is changed.
    let result = unsafe {
        syscall!(
            SYS_rt_sigprocmask,
            NO_SUCH_HOW,
            address,
            ptr::null_mut::<c_void>(),
            size_of::<u64>(),
        )
    };
    address != 0 && Errno::of(result) != Some(Errno::EFAULT)
}
