//! A Rust program that calls libc's ioctl: the number of bytes in a pipe, from eight threads.
use std::{
    ffi::{c_int, c_ulong},
    io::Write,
    os::fd::AsRawFd,
    thread,
};

unsafe extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

const FIONREAD: c_ulong = 0x541b;

fn waiting() -> (c_int, c_int) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(b"hello").expect("room in the pipe");
    let mut bytes: c_int = 0;
    // SAFETY: FIONREAD stores an int.
    let result = unsafe { ioctl(reader.as_raw_fd(), FIONREAD, &raw mut bytes) };
    (result, bytes)
}

fn main() {
    let threads: Vec<_> = (0..8).map(|_| thread::spawn(waiting)).collect();
    for thread in threads {
        println!("{:?}", thread.join().expect("no panic"));
    }
    println!("{:?}", std::process::Command::new("true").status());
}
