// SPDX-License-Identifier: GPL-2.0-only

//! Offering a function of this module to other modules.

/// Exports the `#[no_mangle] extern "C"` function of this name, to GPL modules only.
///
/// This is what `EXPORT_SYMBOL_GPL()` of `include/linux/export.h` leaves behind for modpost.
#[macro_export]
macro_rules! export_symbol_gpl {
    ($name:ident) => {
        core::arch::global_asm!(
            ".pushsection .export_symbol, \"a\"",
            concat!("__export_symbol_", stringify!($name), ":"),
            ".asciz \"GPL\"",
            ".asciz \"\"",
            ".balign 8",
            concat!(".quad ", stringify!($name)),
            ".popsection",
        );
    };
}
