// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memdevs: CXL memory devices.

use std::collections::BTreeMap;
use std::path::Path;

use region_policy::matrix::PartitionMode;

use crate::device::CXL_DEVICES;
use crate::device::Device;
use crate::error::Result;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// The partition that dynamic capacity is given from: a folder of the memdev, and the mode of a decoder that draws from it.
pub const DYNAMIC_PARTITION: &str = "dynamic_ram_a";

/// The offers of dynamic capacity that the host refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals {
    /// How many, since the memdev got its driver.
    pub count: u64,
    /// Why the latest was, in the kernel's words.
    pub latest: Option<String>,
}

impl Refusals {
    fn read(device: &Device<'_>) -> Result<Option<Self>> {
        let count = optional(device.number(&format!("{DYNAMIC_PARTITION}/refused_offers")))?;
        let latest = optional(device.name(&format!("{DYNAMIC_PARTITION}/last_refusal")))?;
        Ok(count.map(|count| Self {
            count,
            latest: latest.flatten(),
        }))
    }
}

/// What was refused of the dynamic capacity of each memdev that has any, by the memdev's name.
///
/// # Errors
/// When the bus is there and cannot be listed, and those of the attributes.
pub fn refusals(tree: &dyn Tree) -> Result<BTreeMap<String, Refusals>> {
    let mut all = BTreeMap::new();
    for name in optional(Device::new(tree, CXL_DEVICES).entries())?.unwrap_or_default() {
        if text::id(&name, "mem").is_some() {
            let device = Device::new(tree, Path::new(CXL_DEVICES).join(&name));
            all.extend(Refusals::read(&device)?.map(|refusals| (name, refusals)));
        }
    }
    Ok(all)
}

/// A CXL memory device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memdev {
    /// `mem0`. The number changes between boots; the serial does not.
    pub name: String,
    /// The device's serial number.
    pub serial: u64,
    /// The PCI function: `0000:0d:00.0`.
    pub host: Option<String>,
    /// Volatile capacity in bytes.
    pub ram_size: u64,
    /// Persistent capacity in bytes.
    pub pmem_size: u64,
    /// How much dynamic capacity there can be, in bytes; 0 where the device or the kernel has none.
    pub dynamic_size: u64,
    /// What the host refused of it; `None` where there is none, or the kernel's drivers do not say.
    pub refusals: Option<Refusals>,
    /// The NUMA node that the device hangs on, which is not the node of its memory.
    pub numa_node: Option<u32>,
    /// What the device says about its firmware.
    pub firmware_version: Option<String>,
    /// Whether its driver holds it, so that it can be in a region.
    pub enabled: bool,
}

impl Memdev {
    /// Reads one memdev. `path` is what its link on the bus says; the PCI function is in there.
    pub(crate) fn read(device: &Device<'_>, name: &str, path: &Path) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            serial: device.number("serial")?,
            host: path
                .parent()
                .and_then(Path::file_name)
                .map(|host| host.to_string_lossy().into_owned()),
            ram_size: capacity(device, "ram/size")?,
            pmem_size: capacity(device, "pmem/size")?,
            dynamic_size: capacity(device, &format!("{DYNAMIC_PARTITION}/size"))?,
            refusals: Refusals::read(device)?,
            numa_node: optional(device.node("numa_node"))?.flatten(),
            firmware_version: optional(device.name("firmware_version"))?.flatten(),
            enabled: device.driver()?.is_some(),
        })
    }
}

impl Memdev {
    /// Capacity of a partition, in bytes.
    #[must_use]
    pub fn capacity(&self, mode: PartitionMode) -> u64 {
        match mode {
            PartitionMode::Ram => self.ram_size,
            PartitionMode::Pmem => self.pmem_size,
            PartitionMode::DynamicCapacity => self.dynamic_size,
        }
    }
}

/// The size of a partition; a device without partitions answers with one byte.
fn capacity(device: &Device<'_>, attribute: &str) -> Result<u64> {
    Ok(optional(device.number(attribute))?
        .filter(|size| *size > 1)
        .unwrap_or(0))
}
