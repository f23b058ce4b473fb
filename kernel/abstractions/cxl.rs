// SPDX-License-Identifier: GPL-2.0-only

//! The CXL bus: regions and their drivers, and devices of our own below a region.
//!
//! - [`region`]: a region, and drivers that bind to one ([`region::Driver`]).
//! - [`subregion`]: devices that a region driver puts below its region, and their drivers.
//! - [`notifier`]: what is about to happen to devices on the bus.

mod bind_files;
pub mod notifier;
pub mod region;
pub mod subregion;

use kernel::sync::atomic::{
    Acquire,
    AtomicFlag,
    Release, //
};

/// Set once all drivers of the module are registered.
///
/// Registering a driver offers it every device that has none. Nobody asked for that: until the flag
/// is set each probe refuses, so loading the module grabs nothing.
static ARMED: AtomicFlag = AtomicFlag::new(false);

/// Lets the drivers of this module bind from now on.
pub fn arm() {
    ARMED.store(true, Release);
}

fn is_armed() -> bool {
    ARMED.load(Acquire)
}
