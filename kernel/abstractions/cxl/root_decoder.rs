// SPDX-License-Identifier: GPL-2.0-only

//! Root decoders: where regions are made.
//!
//! C header: `drivers/cxl/cxl.h`

use crate::abstractions::{
    attribute::Owner,
    bindings,
    device::raw, //
};
use kernel::{
    device,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A root decoder.
///
/// # Invariants
///
/// Stands for the valid `struct device` of a root decoder.
#[repr(transparent)]
pub struct RootDecoder(Opaque<bindings::device>);

// SAFETY: Nothing of it is changed through a shared reference but what locks itself.
unsafe impl Send for RootDecoder {}
// SAFETY: As above.
unsafe impl Sync for RootDecoder {}

impl RootDecoder {
    /// The root decoder whose device `dev` is, if it is one's.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device for the lifetime of the result.
    pub(super) unsafe fn try_from_device<'a>(dev: *mut bindings::device) -> Option<&'a Self> {
        // SAFETY: The caller promises a valid device, and only its type is looked at.
        let is_root_decoder = unsafe { bindings::is_root_decoder(dev) };
        // SAFETY: `RootDecoder` is a transparent wrapper, and the caller promises the rest.
        is_root_decoder.then(|| unsafe { &*dev.cast() })
    }

    /// Calls `f` with each root decoder that there is.
    pub fn for_each<F: FnMut(&Self)>(mut f: F) {
        // SAFETY: The function is given to itself, for the time of the call.
        unsafe {
            bindings::bus_for_each_dev(
                &raw const bindings::cxl_bus_type,
                core::ptr::null_mut(),
                (&raw mut f).cast(),
                Some(visit::<F>),
            )
        };
    }

    /// The number of the next region that is made.
    pub fn next_region(&self) -> Result<c_int> {
        // SAFETY: The type's invariant.
        let number = unsafe { bindings::root_decoder_next_region(raw(self.as_ref())) };
        to_result(number)?;
        Ok(number)
    }

    /// Makes a region for dynamic capacity, of the name `regionN`, which has to be the next one's.
    ///
    /// # Errors
    ///
    /// `EINVAL`: that is no region's name. `EBUSY`: it is not the next one's, or somebody gave the region
    /// addresses meanwhile. `EINTR`: a signal came.
    pub fn create_dc_region(&self, name: &CStr) -> Result {
        // SAFETY: The type's invariant; the name has as many bytes and a zero byte.
        to_result(unsafe {
            bindings::root_decoder_create_dc_region(
                raw(self.as_ref()),
                name.as_char_ptr(),
                name.to_bytes().len(),
            )
        })
    }
}

impl AsRef<device::Device> for RootDecoder {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: The type's invariant.
        unsafe { device::Device::from_raw(self.0.get()) }
    }
}

// SAFETY: A root decoder is its device.
unsafe impl Owner for RootDecoder {
    type Target = Self;

    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a Self {
        // SAFETY: The caller promises a device of this kind.
        unsafe { &*dev.cast() }
    }
}

/// # Safety
///
/// Called by the bus only, with a device that is valid for the call and an `F`.
unsafe extern "C" fn visit<F: FnMut(&RootDecoder)>(
    dev: *mut bindings::device,
    data: *mut c_void,
) -> c_int {
    // SAFETY: The bus hands over a valid device.
    if let Some(root_decoder) = unsafe { RootDecoder::try_from_device(dev) } {
        // SAFETY: The caller passes its own `F`, which nobody else uses meanwhile.
        let f = unsafe { &mut *data.cast::<F>() };
        f(root_decoder);
    }
    0
}
