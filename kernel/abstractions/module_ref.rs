// SPDX-License-Identifier: GPL-2.0-only

//! A reference that keeps a module loaded.

use super::bindings;
use kernel::{
    prelude::*,
    ThisModule, //
};

/// Keeps `module` loaded: while one of these lives, removing the module is refused (`EBUSY`).
pub struct ModuleRef(&'static ThisModule);

impl ModuleRef {
    /// Takes a reference.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the module is on its way out.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The module is the one whose code runs.
        if unsafe { bindings::try_module_get(module.as_ptr()) } {
            Ok(Self(module))
        } else {
            Err(ENODEV)
        }
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: The reference was taken in `new()`.
        unsafe { bindings::module_put(self.0.as_ptr()) };
    }
}

/// Waits until no task is in the middle of code of this module any more, unless it was called from
/// outside since.
///
/// Whoever gives up the last thing that keeps the module loaded may still be on its way out of it.
/// Keep one for the whole life of the module, to be dropped last.
pub struct Quiescence;

impl Drop for Quiescence {
    fn drop(&mut self) {
        // SAFETY: A module's exit may sleep.
        unsafe { bindings::synchronize_rcu_tasks() };
    }
}
