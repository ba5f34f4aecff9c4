//! The crate ibverbs is linked to the system's libibverbs, by declarations that it makes from a copy of rdma-core's headers.

#[path = "../../together.rs"]
mod together;

use together::SIZE;

fn main() {
    let devices = ibverbs::devices().expect("a list of devices");
    together::register(|number| {
        let device = devices.get(number % devices.len()).expect("a device");
        // Never freed: a protection domain borrows its context.
        let context = Box::leak(Box::new(device.open().expect("a context")));
        let domain = context.alloc_pd().expect("a protection domain");
        move || {
            let region = domain.allocate::<u8>(SIZE).expect("a region");
            assert_eq!(region.len(), SIZE);
        }
    });
}
