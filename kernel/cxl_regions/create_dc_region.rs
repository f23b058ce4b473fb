// SPDX-License-Identifier: GPL-2.0-only

//! `create_dc_region`: the file of root decoders by which regions over dynamic capacity are made.

use crate::{
    abstractions::{
        attribute::{
            Attribute,
            Files,
            Page, //
        },
        cxl::root_decoder::RootDecoder,
        global::Lifetime, //
    },
    extra_attributes,
    global_mutex, //
};
use core::fmt::Write;
use kernel::{
    prelude::*,
    str::CString, //
};

global_mutex! {
    /// The root decoders that have the file.
    static FILES(files_lock): KVec<Files> = KVec::new();
}

/// From the module's init to its exit.
pub fn lifetime() -> Lifetime {
    FILES.begin()
}

/// The file at every root decoder, until this is dropped; those that come and go meanwhile are told of.
pub struct Offer;

impl Offer {
    /// Makes the files at those that there are.
    pub fn begin() -> Self {
        RootDecoder::for_each(added);
        Self
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Ok(mut files) = FILES.lock() {
            files.clear();
        }
    }
}

/// A root decoder is there.
pub fn added(root_decoder: &RootDecoder) {
    let result = FILES.lock().and_then(|mut files| {
        let has_file = files.iter().any(|file| is_of(file, root_decoder));
        if !has_file {
            files.reserve(1, GFP_KERNEL)?;
            files.push(Files::add(root_decoder, &CREATE)?, GFP_KERNEL)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        dev_warn!(root_decoder.as_ref(), "no create_dc_region: {:?}\n", error);
    }
}

/// A root decoder is about to go.
pub fn leaving(root_decoder: &RootDecoder) {
    if let Ok(mut files) = FILES.lock() {
        files.retain(|file| !is_of(file, root_decoder));
    }
}

fn is_of(file: &Files, root_decoder: &RootDecoder) -> bool {
    core::ptr::eq(file.device(), root_decoder.as_ref())
}

extra_attributes! {
    /// The file.
    static CREATE: RootDecoder, None => [CreateDcRegion];
}

struct CreateDcRegion;

impl Attribute<RootDecoder> for CreateDcRegion {
    const NAME: &'static CStr = c"create_dc_region";

    fn show(root_decoder: &RootDecoder, page: &mut Page<'_>) -> Result {
        writeln!(page, "region{}", root_decoder.next_region()?)?;
        Ok(())
    }

    fn store(root_decoder: &RootDecoder, text: &[u8]) -> Result {
        let name = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        let name = CString::try_from_fmt(fmt!("{}", name.trim_end_matches('\0')))?;
        root_decoder.create_dc_region(&name)
    }
}
