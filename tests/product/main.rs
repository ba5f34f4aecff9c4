//! What is built besides the library's effect on a process: the command, the files, their packages, and the rules of the source.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod artefact;
mod cargo_settings;
mod conda_and_spack;
mod deb;
mod dist;
mod doctor;
mod frames;
mod header;
mod install;
mod launcher;
mod layers;
mod newest_rdma;
mod recipes;
mod rpm;
mod shells;
mod stress;
mod thread_sanitizer;
mod timeline;
mod wheel;
