// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab: real kernels with emulated CXL hardware, for tests and for people.
//!
//! [`Lab::open`] makes what guests are made of, once, and keeps it in a [`cache`]: the [`tree`] (compiler, kernel source,
//! QEMU), the guest's [`userland`], the project's [`modules`] and [`binaries`]. [`Lab::boot`] puts an [`image`] together,
//! starts [`qemu`] on a [`topology`], and gives a [`Guest`], in which programs run through an agent at the other end of a
//! [`link`]. All that happens is one stream of [`event`]s. [`suite`] runs tests on it, [`walk`] random walks.

pub mod accelerator;
pub mod binaries;
pub mod cache;
pub mod cpio;
pub mod error;
pub mod event;
pub mod fabric;
pub mod guest;
pub mod host;
pub mod image;
pub mod kernel_log;
pub mod lab;
pub mod later_tools;
pub mod link;
pub mod modules;
pub mod program;
pub mod qemu;
pub mod qmp;
pub mod release;
pub mod running;
pub mod screen;
pub mod suite;
pub mod topology;
pub mod tree;
pub mod userland;
pub mod walk;

pub use error::Error;
pub use error::Result;
pub use event::Events;
pub use guest::Guest;
pub use lab::Boot;
pub use lab::Install;
pub use lab::Lab;
pub use running::Output;
