// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Linux says in `/sys` about CXL memory, as types.
//!
//! The crate is read from the bottom up:
//!
//! - [`text`] turns the text of an attribute into a value; it never touches a file.
//! - [`tree`] is the seam: a [`Tree`] can be read, listed, followed and written. [`Sysfs`] is the real one,
//!   below any root folder; tests use an in-memory one (feature `fixture`).
//! - [`port`], [`decoder`], [`memdev`], [`region`], [`extent`], [`dax`] and [`memory`] each know one kind of object.
//! - [`goal`] is what a device shall be, in the words of `region-policy`.
//! - [`snapshot`] reads the whole machine at once and answers questions that span objects.
//! - [`uevent`] waits for the kernel to say that something changed; nothing here sleeps and hopes.
//! - [`error`] is the one error type: what was tried, where, which rule was broken, what to do.
//!
//! All sizes and addresses are bytes. All names are the kernel's (`mem0`, `decoder0.0`, `region3`, `dax3.0`).

pub mod dax;
pub mod decoder;
pub mod device;
pub mod error;
pub mod extent;
#[cfg(feature = "fixture")]
pub mod fixture;
pub mod goal;
pub mod memdev;
pub mod memory;
pub mod port;
pub mod region;
pub mod snapshot;
pub mod text;
pub mod tree;
pub mod uevent;

pub use error::Error;
pub use error::Result;
pub use goal::Goal;
pub use snapshot::Snapshot;
pub use tree::Sysfs;
pub use tree::Tree;
