// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents: the pieces of a region over dynamic capacity that the host has.

use std::path::Path;
use std::path::PathBuf;

use region_policy::extent::Tag;

use crate::device::CXL_DEVICES;
use crate::device::Device;
use crate::error::Result;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// An extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// `extent0.3`.
    pub name: String,
    /// The region that it is in: `region0`.
    pub region: String,
    /// Its number there: `3`. Never used twice.
    pub number: u32,
    /// Where it begins, in bytes from the beginning of the region.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// With which others it belongs together.
    pub tag: Option<Tag>,
    /// Its place among them; 0 where nobody shares them.
    pub sequence: u32,
    /// What becomes of it, in the kernel's words: `in use`, `busy`, `leaving`, …
    pub state: String,
}

impl Extent {
    /// Where an extent is on its bus.
    #[must_use]
    pub fn folder(name: &str) -> PathBuf {
        Path::new(CXL_DEVICES).join(name)
    }

    /// Reads one extent; `None` where the name is not that of an extent.
    ///
    /// # Errors
    /// Those of its attributes.
    pub fn read(tree: &dyn Tree, name: &str) -> Result<Option<Self>> {
        let Some((region, number)) = text::id_pair(name, "extent") else {
            return Ok(None);
        };
        let device = Device::new(tree, Self::folder(name));
        Ok(Some(Self {
            name: name.to_owned(),
            region: format!("region{region}"),
            number,
            offset: device.number("offset")?,
            length: device.number("length")?,
            tag: device.tag("uuid")?,
            sequence: device.small("sequence")?,
            state: device.text("state")?,
        }))
    }

    /// Whether somebody wants it back, and all attempts to free it failed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.state == "busy"
    }
}

/// All extents, in natural order; none where the machine has no CXL bus. Those that vanish while they are read are left out.
///
/// # Errors
/// When the bus is there and cannot be listed, and those of the extents' attributes.
pub fn all(tree: &dyn Tree) -> Result<Vec<Extent>> {
    let mut extents = Vec::new();
    for name in optional(Device::new(tree, CXL_DEVICES).entries())?.unwrap_or_default() {
        extents.extend(optional(Extent::read(tree, &name))?.flatten());
    }
    Ok(extents)
}
