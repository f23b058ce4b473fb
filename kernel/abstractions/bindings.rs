// SPDX-License-Identifier: GPL-2.0-only

//! Bindings to what the `kernel` crate does not cover: the private headers of the CXL and DAX
//! cores, memory hotplug, and the C helpers of this project.
//!
//! Types that the `kernel` crate already knows are its own, so that the two fit together.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

pub use kernel::bindings::*;
use kernel::ffi;
use pin_init::MaybeZeroable;

/// Types that are only pointed to: their layout is nobody's business here.
macro_rules! pointer_only {
    ($($name:ident),* $(,)?) => {$(
        #[repr(C)]
        pub struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

pointer_only!(
    cxl_dev_state,
    cxl_dport,
    cxl_mem_err_rec,
    cxl_memdev_attach,
    cxl_nvdimm,
    cxl_nvdimm_bridge,
    cxl_pmem_region,
    cxl_port,
    cxl_root_decoder,
    dax_device,
    dax_mapping,
);

include!("../bindings/bindings_generated.rs");
