//! A dma-buf is let through under all settings, and everything else that `ibv_reg_mr_ex` and `ibv_reg_buf_mr` register takes the
//! lock: a buffer of `ibv_alloc_buf` may be either.

use crate::common::{Outcome, Program, client};

/// Buffers of ordinary memory, or dma-bufs. libibverbs also makes the requests of mlx5. A registration takes so long that those
/// of two running threads overlap.
fn buffers(are_dma_bufs: bool) -> Program {
    let dma_bufs = if are_dma_bufs { "1" } else { "0" };
    client("buffers")
        .env("FAKE_IBV_DMA_BUF", dma_bufs)
        .env("FAKE_IBV_IOCTL", "1")
        .env("FAKE_IBV_HOLD_US", "2000")
}

/// Eight threads register buffers, twenty times each.
fn in_threads(are_dma_bufs: bool, are_preloaded: bool) -> Outcome {
    let program = buffers(are_dma_bufs).arg("8").counting();
    let program = if are_preloaded {
        program.preloaded()
    } else {
        program
    };
    let outcome = program.run().succeeded("buffers");
    assert_eq!(outcome.stderr, "");
    assert_eq!(outcome.witness.registrations.calls, 160);
    outcome
}

/// The verbs hook and the ioctl hook agree. The deregistration does not say what it is applied to.
#[test]
fn what_is_inside_decides() {
    for hooks in ["verbs,ioctl", "verbs", "ioctl"] {
        for memory in ["any", "device"] {
            let lines = |are_dma_bufs| {
                let program = buffers(are_dma_bufs).preloaded();
                let program = program.env("MRLOCK_HOOKS", hooks);
                let program = program.env("MRLOCK_MEMORY", memory);
                program.run().succeeded(hooks).stdout
            };
            // Host memory: with `device`, only the request for a deregistration, which has no address, takes the lock.
            let host = match (memory, hooks) {
                ("any", _) => 2,
                (_, "ioctl") => 1,
                _ => 0,
            };
            // libibverbs refuses this call, and makes no request.
            let refused = u32::from(memory == "any" && hooks != "ioctl");
            for (are_dma_bufs, buffer) in [(false, host), (true, 1)] {
                let expected = format!(
                    "a buffer: {buffer} of 2\n\
                     the end of a buffer: {buffer} of 2\n\
                     a buffer of another domain: {refused} of 1\n\
                     a buffer by its attribute: {buffer} of 2\n\
                     an address: {host} of 2\n\
                     a descriptor: 1 of 2\n"
                );
                let what = format!("{hooks}, {memory}, dma-bufs: {are_dma_bufs}");
                assert_eq!(lines(are_dma_bufs), expected, "{what}");
            }
        }
    }
}

#[test]
fn buffers_of_ordinary_memory_are_registered_one_at_a_time() {
    let without = in_threads(false, false).witness;
    assert!(without.together >= 2, "nothing to see: {without:#?}");
    assert_eq!(in_threads(false, true).witness.together, 1);
    // The kernel's race, as it is simulated, spares dma-bufs alone.
    assert!(buffers(false).arg("8").run().segfaulted());
    let with = buffers(false).arg("8").preloaded().run();
    with.succeeded("with the library");
}

#[test]
fn dma_bufs_are_registered_together() {
    let with = in_threads(true, true).witness;
    assert!(with.registrations.peak >= 2, "serialized: {with:#?}");
    assert_eq!(with.deregistrations.peak, 1, "{with:#?}");
}
