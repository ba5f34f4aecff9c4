//! Why this command may not look at a process.

use super::host::Directory;
use rustix::{
    process::geteuid,
    thread::{CapabilitySet, capabilities},
};
use std::io::{self, ErrorKind};

/// The error in a few words, with what to do.
pub fn why(process: i32, error: &io::Error) -> String {
    if error.kind() != ErrorKind::PermissionDenied {
        return format!("{error}");
    }
    let can_trace =
        capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_PTRACE));
    let user_namespace = |process: i32| Directory::open(process).ok()?.link("ns/user");
    let own = user_namespace(std::process::id() as i32);
    match (can_trace, geteuid().is_root()) {
        (false, true) => "CAP_SYS_PTRACE is missing: this is root without it, as in a container; \
             add it (docker run --cap-add SYS_PTRACE), or run this on the host"
            .into(),
        (false, false) => {
            "it is another user's, or protected: run this as root, or with CAP_SYS_PTRACE".into()
        }
        (true, _)
            if own.is_some() && user_namespace(process).is_some_and(|its| Some(its) != own) =>
        {
            "it is in another user namespace: run this as root of the host".into()
        }
        (true, _) => format!(
            "{error}, although CAP_SYS_PTRACE is there: a security module forbids it (AppArmor, SELinux, or kernel.yama.ptrace_scope=3)"
        ),
    }
}
