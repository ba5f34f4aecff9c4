//! A Debian in a directory of its own: a container's root, without a container.

use super::{Outcome, Program, build, client, dist, fixtures, listed, scratch, target_dir};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Removed when it is dropped.
pub struct Root(PathBuf);

impl Root {
    /// A release, as debootstrap made it.
    pub fn of(release: &str) -> Self {
        let root = scratch("root");
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto"]);
        let original = target_dir().join(format!("debian-{release}"));
        build(copy.arg(original).arg(&root));
        Self(root)
    }

    /// Debian 12.
    pub fn new() -> Self {
        Self::of("bookworm")
    }

    /// With a client that dies in a race, in /client. It knows nothing of mrlock.
    pub fn with_client() -> Self {
        let root = Self::new();
        root.copy(Path::new(client("stress").name()), "client/stress");
        let libibverbs = fixtures().join("lib/libibverbs.so.1");
        root.copy(&libibverbs, "client/libibverbs.so.1");
        let bare = root.run(CLIENT);
        assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
        root
    }

    /// With the package that `make dist` made, too.
    pub fn with_client_and_package() -> Self {
        let root = Self::with_client();
        root.install("mrlock");
        root
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn copy(&self, file: &Path, to: &str) {
        let to = self.0.join(to);
        fs::create_dir_all(to.parent().expect("it is below the root"))
            .expect("a scratch directory");
        fs::copy(file, to).expect("a file to copy");
    }

    /// Puts a package of `make dist` into /tmp.
    pub fn copy_package(&self, name: &str) {
        let package = format!("{name}_{}_amd64.deb", env!("CARGO_PKG_VERSION"));
        self.copy(&dist().join(&package), &format!("tmp/{package}"));
    }

    pub fn install(&self, name: &str) {
        self.copy_package(name);
        let dpkg = format!("dpkg --install /tmp/{name}_*.deb && rm /tmp/{name}_*.deb");
        self.run(&dpkg).succeeded("dpkg --install");
    }

    /// What installing a package changes; the rest is the package manager's own bookkeeping.
    pub fn contents(&self) -> BTreeSet<String> {
        let all = listed(&self.0, true).into_iter();
        let ours = |line: &String| line.starts_with("usr/") || line.starts_with("etc/");
        let ours = all.filter(|line| ours(line) && !line.starts_with("etc/ld.so.cache "));
        // debhelper compresses a text when it is long.
        ours.map(|line| line.replace(".md.gz ", ".md ")).collect()
    }

    /// Fails unless the files that were not there `before` are these, with this version for VERSION.
    #[track_caller]
    pub fn has_new_files(&self, before: &BTreeSet<String>, expected: &[&str]) {
        let version = env!("CARGO_PKG_VERSION");
        let expected = expected.iter().map(|line| line.replace("VERSION", version));
        let now = self.contents();
        let new = now.difference(before).filter(|line| !line.contains("/ "));
        let new: BTreeSet<_> = new.cloned().collect();
        assert_eq!(new, expected.collect(), "left: what is new");
    }

    /// Runs a shell command with this as its root, and with processes of its own.
    pub fn run(&self, command: &str) -> Outcome {
        let unshare = Program::new("unshare").args(["--mount", "--pid", "--fork", "--kill-child"]);
        let unshare = unshare.arg("--root").arg(&self.0).arg("--mount-proc");
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let shell = unshare.args(["env", "-i", path, "DEBIAN_FRONTEND=noninteractive"]);
        shell.args(["sh", "-c", command]).run()
    }
}

/// How the client is run there. -g: on memory that mrlock takes for GPU memory.
pub const CLIENT: &str = "export LD_LIBRARY_PATH=/client; exec /client/stress -g";

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
