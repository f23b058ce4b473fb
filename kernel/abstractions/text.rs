// SPDX-License-Identifier: GPL-2.0-only

//! Printing what the ordinary formatting traits can print.
//!
//! The kernel's printing macros have a trait of their own, which foreign types do not implement.

use core::fmt::Display;
use kernel::fmt::{
    self,
    Formatter, //
};

/// Shows the kernel's printing macros what anything else shows.
pub struct Text<T>(pub T);

impl<T: Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
