//! `ioctl()`: the uverbs commands that pin or unpin memory, and the command that frees GPU memory.
//!
//! Since kernel 5.0 and rdma-core 22, libibverbs and its providers reach the kernel by `ioctl(fd, RDMA_VERBS_IOCTL, header)`,
//! called through their PLT. So does a program that has them linked in. Some calls arrive here without having passed a
//! verbs hook: NCCL takes its functions from a `dlopen` handle. (With an older kernel or rdma-core, the same commands go through
//! `write()`, which is not hooked: only the verbs hooks catch those.)
//!
//! `ioctl` is called from everywhere, signal handlers and vfork children included. Any other request is forwarded at once, by
//! two compares and a jump. This takes no lock, allocates nothing, looks nothing up, and works before our constructor has run.

use super::{
    serialize::{is_part_of_a_call, serialize, serialize_free},
    verbs,
};
use crate::{
    base::sys,
    call::{
        device::Device,
        operation::{Kind, Layer, Memory, Operation, Region},
        policy,
    },
    resolve,
};
use core::{
    ffi::c_void,
    iter, mem, ptr,
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

/// `_IOWR(RDMA_IOCTL_MAGIC, 1, struct ib_uverbs_ioctl_hdr)`. The kernel, too, ignores all but the low 32 bits of a request.
const RDMA_VERBS_IOCTL: u32 = (3 << 30) | ((size_of::<Header>() as u32) << 16) | (0x1b << 8) | 1;

/// `NV_ESC_RM_FREE` of NVIDIA's open kernel modules (`nv_escape.h`, `nvos.h`): `_IOWR('F', 0x29, NVOS00_PARAMETERS)`, a
/// structure of 16 bytes. cudaFree(), the trim of cudaFreeAsync(), cuMemRelease(), cudaDeviceReset() and cuCtxDestroy() make this
/// request (measured with driver 580), and libcuda makes it through libc.
const NV_ESC_RM_FREE: u32 = (3 << 30) | (16 << 16) | (b'F' as u32) << 8 | 0x29;

/// How a command is recognized, and where it describes the memory that it is applied to.
#[derive(Clone, Copy)]
enum Command {
    /// `UVERBS_METHOD_INVOKE_WRITE` of the device, with this `enum ib_uverbs_write_cmds` in `UVERBS_ATTR_WRITE_CMD`. The
    /// start, the length and the access flags are at these offsets of the command's structure, `UVERBS_ATTR_CORE_IN`.
    Write(u64, Option<[usize; 3]>),
    /// A method of `UVERBS_OBJECT_MR`.
    Mr(u16, Option<Attributes>),
    /// A method of a driver's object for registered memory, which is 0x1002 with each driver that has one.
    DriverUmem(u32, u16, Option<Attributes>),
}
use Command::{DriverUmem, Mr, Write};

/// The attributes that carry an address, a length, access flags, and the file descriptor of a dma-buf in place of the address.
#[derive(Clone, Copy)]
struct Attributes {
    address: u16,
    length: u16,
    access: u16,
    dma_buf: u16,
}

/// The commands that pin or unpin memory, with the header that defines each and the first kernel that has it.
///
/// `UVERBS_METHOD_REG_DMABUF_MR` (5.12) is not here: it imports the buffer from its exporter and never enters nvidia-peermem.
/// Nor are the commands that create queues, whose rings are ordinary memory. (Not covered: rings in GPU memory, as in GPUDirect
/// Async; and the rings of the out-of-tree ionic and erdma drivers, which are pinned through the peer client.)
static TABLE: [(Command, Operation); 9] = [
    // <rdma/ib_user_verbs.h>, 5.0: struct ib_uverbs_reg_mr, ib_uverbs_rereg_mr, ib_uverbs_dereg_mr
    row(
        0,
        Write(9, Some([8, 16, 36])),
        Kind::Registration,
        "uverbs:REG_MR",
    ),
    row(1, Write(11, None), Kind::Registration, "uverbs:REREG_MR"),
    row(2, Write(13, None), Kind::Deregistration, "uverbs:DEREG_MR"),
    // <rdma/ib_user_ioctl_cmds.h>, 5.0 (MR_DESTROY) and 6.17 (MR_REG)
    row(3, Mr(1, None), Kind::Deregistration, "uverbs:MR_DESTROY"),
    row(4, Mr(5, Some(REG_MR)), Kind::Registration, "uverbs:MR_REG"),
    // <rdma/mlx5_user_ioctl_cmds.h>, 4.19
    row(
        5,
        DriverUmem(MLX5, 0x1000, Some(MLX5_UMEM_REG)),
        Kind::Registration,
        "mlx5:UMEM_REG",
    ),
    row(
        6,
        DriverUmem(MLX5, 0x1001, None),
        Kind::Deregistration,
        "mlx5:UMEM_DEREG",
    ),
    // Only in the erdma driver that Alibaba distributes, not in the kernel's. The driver's id is in
    // <rdma/ib_user_ioctl_verbs.h> of 6.1.
    row(
        7,
        DriverUmem(ERDMA, 0x1000, None),
        Kind::Registration,
        "erdma:UMEM_REG",
    ),
    row(
        8,
        DriverUmem(ERDMA, 0x1001, None),
        Kind::Deregistration,
        "erdma:UMEM_DEREG",
    ),
];

// enum uverbs_attrs_reg_mr_cmd_attr_ids
const REG_MR: Attributes = Attributes {
    address: 4,
    length: 5,
    access: 6,
    dma_buf: 7,
};

// enum mlx5_ib_devx_umem_reg_attrs
const MLX5_UMEM_REG: Attributes = Attributes {
    address: 0x1001,
    length: 0x1002,
    access: 0x1003,
    dma_buf: 0x1006,
};

static FREE: Operation = Operation::new(
    verbs::COUNT + TABLE.len(),
    "nvidia:RM_FREE",
    Kind::Free,
    Layer::Ioctl,
);

/// How many operations there are.
pub const COUNT: usize = TABLE.len() + 1;

const fn row(
    place: usize,
    command: Command,
    kind: Kind,
    name: &'static str,
) -> (Command, Operation) {
    let index = verbs::COUNT + place;
    (command, Operation::new(index, name, kind, Layer::Ioctl))
}

/// The operations of this layer.
pub fn operations() -> impl Iterator<Item = &'static Operation> + Clone {
    let uverbs = TABLE.iter().map(|(_, operation)| operation);
    uverbs.chain(iter::once(&FREE))
}

export_ioctl!(RDMA_VERBS_IOCTL => uverbs, NV_ESC_RM_FREE => rm_free, else NEXT);

/// The `ioctl` that a caller would have reached without us. Until `find_next` has run, this is the system call, as in libc: a
/// call from a constructor that runs before ours does not reach other preloaded definitions.
static NEXT: AtomicPtr<c_void> = AtomicPtr::new(system_call as *mut c_void);

/// Looks up the next definition of `ioctl`: libc's, or that of another preloaded library.
pub fn find_next() {
    if let Some(next) = resolve::next(c"ioctl") {
        // Relaxed: a thread may use either value.
        NEXT.store(next.as_ptr(), Ordering::Relaxed);
    }
}

/// Rust cannot define a variadic function. On x86_64 and aarch64, a variadic function gets its arguments in the same registers.
extern "C" fn system_call(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's own arguments, as it would hand them to libc's ioctl.
    unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) as c_int }
}

extern "C" fn uverbs(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    resolve::note_libibverbs();
    let call = || next(fd, request, argument);
    if !policy::catches(Layer::Ioctl) || is_part_of_a_call() {
        return call();
    }
    match recognize(argument) {
        Some((operation, memory)) => serialize(operation, Device::of_file(fd), memory, call),
        None => call(),
    }
}

extern "C" fn rm_free(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    serialize_free(&FREE, Device::of_file(fd), || next(fd, request, argument))
}

/// Calls the `ioctl` behind ours.
fn next(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the pointer is `system_call`'s, or that of a definition of ioctl, whose type <sys/ioctl.h> fixes.
    // Relaxed: as in `find_next`.
    let next: unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int =
        unsafe { mem::transmute(NEXT.load(Ordering::Relaxed)) };
    // SAFETY: the caller's own arguments.
    unsafe { next(fd, request, argument) }
}

/// The operation that the request at `argument` asks for, if the table has it, and the memory that the request names. Reads the
/// header and the attributes that the header announces, as far as they are readable: the kernel refuses a malformed request.
fn recognize(argument: *const c_void) -> Option<(&'static Operation, Memory)> {
    let start = argument as usize;
    if !is_readable(start, size_of::<Header>()) {
        return None;
    }
    let header: *const Header = argument.cast();
    // SAFETY: readable, as just checked; no alignment is required.
    let request = unsafe { header.read_unaligned() };
    let Header {
        length,
        object,
        method,
        attributes,
        driver,
        ..
    } = request;
    // The kernel checks this first.
    let expected = size_of::<Header>() + usize::from(attributes) * size_of::<Attribute>();
    if usize::from(length) != expected || !is_readable(start, expected) {
        return None;
    }
    let attribute = |id: u16| {
        let first: *const Attribute = header.wrapping_add(1).cast();
        (0..usize::from(attributes))
            // SAFETY: within the `expected` bytes that are readable, as just checked.
            .map(|index| unsafe { first.add(index).read_unaligned() })
            .find(|attribute| attribute.id == id)
    };
    let data = |id: u16| attribute(id).map(|attribute| attribute.data);
    let matches = |command: &Command| match *command {
        Write(wanted, _) => {
            (object, method) == (UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE)
                && data(UVERBS_ATTR_WRITE_CMD) == Some(wanted)
        }
        Mr(wanted, _) => (object, method) == (UVERBS_OBJECT_MR, wanted),
        // A driver's numbers mean something else with another driver.
        DriverUmem(of, wanted, _) => (driver, object, method) == (of, DRIVER_OBJECT_UMEM, wanted),
    };
    let (command, operation) = TABLE.iter().find(|(command, _)| matches(command))?;
    let memory = match *command {
        Write(_, Some(offsets)) => {
            attribute(UVERBS_ATTR_CORE_IN).and_then(|structure| at_offsets(structure, offsets))
        }
        Mr(_, Some(ids)) | DriverUmem(_, _, Some(ids)) => {
            if attribute(ids.dma_buf).is_some() {
                Some(Memory::DmaBuf)
            } else {
                let access = data(ids.access).unwrap_or(0);
                let place = data(ids.address).zip(data(ids.length));
                place.map(|(address, length)| memory(address, length, access as u32))
            }
        }
        _ => None,
    };
    Some((operation, memory.unwrap_or(Memory::Unknown)))
}

/// The region whose start, length and access flags are at these offsets of the structure that an attribute points to.
fn at_offsets(structure: Attribute, [address, length, access]: [usize; 3]) -> Option<Memory> {
    let start = usize::try_from(structure.data).ok()?;
    let end = access + size_of::<u32>();
    if usize::from(structure.length) < end || !is_readable(start, end) {
        return None;
    }
    let word = |offset| ptr::with_exposed_provenance::<u64>(start + offset);
    // SAFETY: readable up to `end`, which is behind each of the three; no alignment is required.
    let (address, length, access) = unsafe {
        let access: *const u32 = word(access).cast();
        (
            word(address).read_unaligned(),
            word(length).read_unaligned(),
            access.read_unaligned(),
        )
    };
    Some(memory(address, length, access))
}

fn memory(address: u64, length: u64, access: u32) -> Memory {
    let region = Region {
        address: ptr::without_provenance(address as usize),
        length: length as usize,
    };
    Memory::with_access(region, access)
}

// <rdma/ib_user_ioctl_cmds.h>, <rdma/mlx5_user_ioctl_cmds.h>, <rdma/ib_user_ioctl_verbs.h>
const UVERBS_OBJECT_DEVICE: u16 = 0;
const UVERBS_METHOD_INVOKE_WRITE: u16 = 0;
const UVERBS_ATTR_CORE_IN: u16 = 0;
const UVERBS_ATTR_WRITE_CMD: u16 = 2;
const UVERBS_OBJECT_MR: u16 = 7;
const DRIVER_OBJECT_UMEM: u16 = 0x1002;
const MLX5: u32 = 1;
const ERDMA: u32 = 19;

/// Whether the kernel could read `length` bytes from `start` on. A caller that passes an unmapped address gets EFAULT from the
/// kernel: our read, which comes first, must not crash it.
fn is_readable(start: usize, length: usize) -> bool {
    // Either all of a page can be read or nothing of it: one byte of each page is enough.
    let Some(last) = start.checked_add(length - 1) else {
        return false;
    };
    let size = sys::page_size();
    let mut pages = start / size..=last / size;
    pages.all(|page| is_byte_readable(start.max(page * size)))
}

/// Uses futex(2): a sandbox may kill a process for process_vm_readv(2), but every libc needs futex(2). Four aligned bytes are in
/// one page.
fn is_byte_readable(address: usize) -> bool {
    sys::is_word_readable(address & !3)
}
