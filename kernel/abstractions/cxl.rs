// SPDX-License-Identifier: GPL-2.0-only

//! The CXL bus: regions and their drivers, and devices of our own below a region.
//!
//! - [`region`]: a region, and drivers that bind to one ([`region::Driver`]).
//! - [`subregion`]: devices that a region driver puts below its region, and their drivers.
//! - [`performance`]: how fast a region's memory is, told to those who place memory.
//! - [`linear_cache`]: memory errors in a region that has a cache among its addresses.
//! - [`poison`]: bad memory on purpose, by offsets in a region.
//! - [`memdev`]: memory devices, their mailboxes, and what comes and goes with them.
//! - [`reset`]: devices that may not be reset.
//! - [`root_decoder`]: where regions are made.
//! - [`notifier`]: what is about to happen to devices on the bus.

mod bind_files;
pub mod linear_cache;
pub mod memdev;
pub mod notifier;
pub mod performance;
pub mod poison;
pub mod region;
pub mod reset;
pub mod root_decoder;
pub mod subregion;

use crate::abstractions::global;

/// From the module's init to its exit: makes the globals of this abstraction ready.
pub fn lifetimes() -> [global::Lifetime; 3] {
    [
        bind_files::lifetime(),
        region::lifetime(),
        reset::lifetime(),
    ]
}
