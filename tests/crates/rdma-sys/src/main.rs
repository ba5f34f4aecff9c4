//! rdma-sys declares the system's libibverbs, and translates the inline functions of its header.

#[path = "../../together.rs"]
mod together;

use rdma_sys::{
    __ibv_reg_mr, ibv_access_flags, ibv_alloc_pd, ibv_dereg_mr, ibv_free_device_list,
    ibv_get_device_list, ibv_open_device,
};
use together::SIZE;

fn main() {
    together::register(|number| {
        let mut count = 0;
        // SAFETY: each call gets what another one has returned, which is checked; the list is freed after its last use.
        let domain = unsafe {
            let devices = ibv_get_device_list(&mut count);
            assert!(!devices.is_null() && count > 0, "a list of devices");
            let context = ibv_open_device(*devices.add(number % count as usize));
            assert!(!context.is_null(), "a context");
            ibv_free_device_list(devices);
            ibv_alloc_pd(context)
        };
        assert!(!domain.is_null(), "a protection domain");
        let mut memory = vec![0_u8; SIZE];
        let access = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0;
        move || {
            // SAFETY: the domain is never deallocated; the memory is the caller's own, and outlives the region.
            let status = unsafe {
                let region = __ibv_reg_mr(domain, memory.as_mut_ptr().cast(), SIZE, access, 0);
                assert!(!region.is_null(), "a region");
                assert_eq!((*region).length, SIZE);
                ibv_dereg_mr(region)
            };
            assert_eq!(status, 0, "ibv_dereg_mr");
        }
    });
}
