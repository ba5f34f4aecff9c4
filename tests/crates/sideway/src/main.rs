//! sideway brings a libibverbs of its own, linked into the program, that calls the functions of the real one, from a handle.

#[path = "../../together.rs"]
mod together;

use sideway::ibverbs::{AccessFlags, device::DeviceList};
use together::SIZE;

fn main() {
    together::register(|number| {
        let devices = DeviceList::new().expect("a list of devices");
        let device = devices.get(number % devices.len()).expect("a device");
        let context = device.open().expect("a context");
        let domain = context.alloc_pd().expect("a protection domain");
        let memory = vec![0_u8; SIZE];
        move || {
            let access = AccessFlags::LocalWrite | AccessFlags::RemoteRead;
            // SAFETY: the memory is not used otherwise, and outlives the region, which is dropped here.
            let region = unsafe { domain.reg_mr(memory.as_ptr() as usize, SIZE, access) };
            assert_eq!(region.expect("a region").region_len(), SIZE);
        }
    });
}
