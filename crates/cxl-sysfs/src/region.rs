// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions: a range of physical addresses, the memdevs behind it, and the driver that decides what it is for.

use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;

use crate::device::CXL_DEVICES;
use crate::device::Device;
use crate::error::Result;
use crate::memory;
use crate::memory::Census;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// The kernel prints this where a region has no address yet.
const NO_ADDRESS: u64 = u64::MAX;

/// Counts the memory at a region's addresses, whoever has it; none where memory cannot be hot-plugged.
///
/// # Errors
/// When there is no such region, and those of the blocks' attributes.
pub fn memory(tree: &dyn Tree, name: &str) -> Result<Census> {
    let device = Device::new(tree, CXL_DEVICES).below(name);
    let (address, size) = (address(&device)?, device.number("size")?);
    let (Some(start), Some(block_size)) = (address, optional(memory::block_size(tree))?) else {
        return Ok(Census::default());
    };
    let range = start..start.saturating_add(size);
    Census::take(tree, std::slice::from_ref(&range), block_size)
}

fn address(region: &Device<'_>) -> Result<Option<u64>> {
    Ok(Some(region.number("resource")?).filter(|address| *address != NO_ADDRESS))
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// `region0`.
    pub name: String,
    /// The root decoder in whose window it lies.
    pub decoder: String,
    /// First physical address, once it has a size.
    pub resource: Option<u64>,
    /// Bytes.
    pub size: u64,
    /// `ram`, `pmem`; `None` for a type that this kernel has no word for.
    pub mode: Option<String>,
    /// How many memdevs addresses alternate between; 0 until it is set.
    pub interleave_ways: u32,
    /// After how many bytes the next memdev follows; 0 until it is set.
    pub interleave_granularity: u32,
    /// Whether the decoders are programmed.
    pub committed: bool,
    /// Whether the decoders must not be changed now.
    pub locked: bool,
    /// Endpoint decoders by position.
    pub targets: Vec<Option<String>>,
    /// The driver that holds the region.
    pub driver: Option<String>,
    /// The device below a region that `cxl_sysram_region` holds.
    pub sysram: Option<SysramRegion>,
    /// The device below a region that `cxl_devdax_region` holds.
    pub devdax: Option<DevdaxRegion>,
}

/// The device on which the policy of a system-RAM region is set before its memory exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysramRegion {
    /// `sysram_region0`.
    pub name: String,
    /// `cxl_dax_kmem_region`, once the policy is set and taken.
    pub driver: Option<String>,
    /// The policy; `None` until it is set.
    pub online_type: Option<OnlineType>,
    /// Whether the policy may be for kernel zones: always, unless the region is over dynamic capacity.
    pub allow_kernel_zones: bool,
}

/// The device on which the mode of a region that applications map is set before its dax devices exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevdaxRegion {
    /// `dax_region0`.
    pub name: String,
    /// `cxl_dax_device_region`, once the mode is set and taken.
    pub driver: Option<String>,
    /// The mode; `None` until it is set.
    pub dax_mode: Option<DaxMode>,
}

impl Region {
    pub(crate) fn read(device: &Device<'_>, name: &str, decoder: &str) -> Result<Self> {
        let interleave_ways = device.small("interleave_ways")?;
        let mut targets = Vec::new();
        for position in 0..interleave_ways {
            targets.push(device.name(&format!("target{position}"))?);
        }
        Ok(Self {
            name: name.to_owned(),
            decoder: decoder.to_owned(),
            resource: address(device)?,
            size: device.number("size")?,
            mode: optional(device.name("mode"))?.flatten(),
            interleave_ways,
            interleave_granularity: device.small("interleave_granularity")?,
            committed: device.flag("commit")?,
            // Older kernels have no such attribute, and no such lock.
            locked: optional(device.flag("locked"))?.unwrap_or(false),
            targets,
            driver: device.driver()?,
            sysram: SysramRegion::read(device, name)?,
            devdax: DevdaxRegion::read(device, name)?,
        })
    }

    /// The first address behind the region.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.resource
            .map(|resource| resource.saturating_add(self.size))
    }

    /// The number of the region: `3` of `region3`.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        text::id(&self.name, "region")
    }
}

impl SysramRegion {
    fn read(region: &Device<'_>, name: &str) -> Result<Option<Self>> {
        let Some(id) = text::id(name, "region") else {
            return Ok(None);
        };
        let name = format!("sysram_region{id}");
        let device = region.below(&name);
        let Some(word) = optional(device.text("online_type"))? else {
            return Ok(None);
        };
        Ok(Some(Self {
            driver: device.driver()?,
            online_type: OnlineType::parse(word.as_bytes()),
            allow_kernel_zones: device.flag("allow_kernel_zones")?,
            name,
        }))
    }
}

impl DevdaxRegion {
    fn read(region: &Device<'_>, name: &str) -> Result<Option<Self>> {
        let Some(id) = text::id(name, "region") else {
            return Ok(None);
        };
        let name = format!("dax_region{id}");
        let device = region.below(&name);
        // The stock driver has a device of that name as well, without a mode.
        let Some(word) = optional(device.text("dax_mode"))? else {
            return Ok(None);
        };
        Ok(Some(Self {
            driver: device.driver()?,
            dax_mode: DaxMode::parse(word.as_bytes()),
            name,
        }))
    }
}
