// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dax devices: what a region's memory is handed to a driver as, and the switch that plugs it.

use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use region_policy::extent::Tag;

use crate::device::DAX_DEVICES;
use crate::device::Device;
use crate::error::Result;
use crate::memory::Census;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// A dax device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaxDevice {
    /// `dax0.0`.
    pub name: String,
    /// The folders above it from the outermost in: `…, region0, sysram_region0, dax_region0`.
    pub ancestors: Vec<String>,
    /// `kmem`, `device_dax`, `fsdev_dax`.
    pub driver: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Alignment of its mappings in bytes.
    pub align: u64,
    /// The NUMA node that its memory belongs to.
    pub target_node: Option<u32>,
    /// Its ranges of physical addresses, in order. Only root may read them; empty otherwise.
    pub ranges: Vec<Range<u64>>,
    /// What kmem says in `state`: the whole device at once.
    pub state: Option<String>,
    /// What kmem says in `hotplug`, the other spelling of the same.
    pub hotplug: Option<String>,
    /// The tag of the dynamic capacity that it is made of.
    pub tag: Option<Tag>,
}

impl DaxDevice {
    /// Where the device is on its bus.
    #[must_use]
    pub fn folder(name: &str) -> PathBuf {
        Path::new(DAX_DEVICES).join(name)
    }

    /// Reads one device.
    ///
    /// # Errors
    /// Those of its attributes.
    pub fn read(tree: &dyn Tree, name: &str) -> Result<Self> {
        let device = Device::new(tree, Self::folder(name));
        let path = tree.link(device.folder())?;
        Ok(Self {
            name: name.to_owned(),
            ancestors: ancestors(&path),
            driver: device.driver()?,
            size: device.number("size")?,
            align: device.number("align")?,
            target_node: optional(device.node("target_node"))?.flatten(),
            ranges: ranges(&device)?,
            state: optional(device.text("state"))?,
            hotplug: optional(device.text("hotplug"))?,
            tag: optional(device.tag("uuid"))?.flatten(),
        })
    }

    /// The region that the device belongs to; `None` for one that is not from CXL.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.ancestors
            .iter()
            .map(String::as_str)
            .find(|name| text::id(name, "region").is_some())
    }

    /// The folder directly above (`dax_region0`), where the dax core keeps what devices of one region share.
    #[must_use]
    pub fn dax_region(&self) -> Option<&str> {
        self.ancestors.last().map(String::as_str)
    }

    /// Whether its memory is, or can become, system RAM.
    #[must_use]
    pub fn is_system_ram(&self) -> bool {
        self.driver.as_deref() == Some("kmem")
    }

    /// Whether the kernel is done creating it. Its ranges are registered last, after the bus had its chance to give it to a
    /// driver; a device that is only visible can still be taken by one.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum::<u64>()
            == self.size
    }

    /// Counts its memory blocks.
    ///
    /// # Errors
    /// Those of the blocks' attributes.
    pub fn census(&self, tree: &dyn Tree, block_size: u64) -> Result<Census> {
        Census::take(tree, &self.ranges, block_size)
    }
}

/// The names of all dax devices, in natural order; none where the machine has no dax bus.
///
/// # Errors
/// When the bus is there and cannot be listed.
pub fn names(tree: &dyn Tree) -> Result<Vec<String>> {
    Ok(optional(Device::new(tree, DAX_DEVICES).entries())?.unwrap_or_default())
}

/// The dax devices of a region, in natural order.
///
/// Devices that vanish while they are read are left out.
///
/// # Errors
/// Those of the devices' attributes.
pub fn of_region(tree: &dyn Tree, region: &str) -> Result<Vec<DaxDevice>> {
    let mut devices = Vec::new();
    for name in names(tree)? {
        // The link alone tells whose it is: other devices are not read.
        let Some(path) = optional(tree.link(&DaxDevice::folder(&name)))? else {
            continue;
        };
        if ancestors(&path).iter().any(|ancestor| ancestor == region) {
            devices.extend(optional(DaxDevice::read(tree, &name))?);
        }
    }
    Ok(devices)
}

/// The folders above a device, from what its link on the bus says.
fn ancestors(link: &Path) -> Vec<String> {
    let above = link.parent().unwrap_or(link);
    above
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .filter(|part| part != "..")
        .collect()
}

/// The ranges of a device: one per `mappingN`, which only root may read.
fn ranges(device: &Device<'_>) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for number in 0u32.. {
        let mapping = device.below(&format!("mapping{number}"));
        let (start, end) = match (mapping.number("start"), mapping.number("end")) {
            (Ok(start), Ok(end)) => (start, end),
            (Err(error), _) | (_, Err(error)) => {
                if error.is_missing() || error.errno() == Some(rustix::io::Errno::ACCESS) {
                    break;
                }
                return Err(error);
            }
        };
        ranges.push(start..end.saturating_add(1));
    }
    Ok(ranges)
}
