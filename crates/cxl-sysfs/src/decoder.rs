// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decoders: where addresses are mapped. Root decoders are the platform's windows; those of switches and endpoints are
//! given to one region each.

use region_policy::matrix::PartitionMode;

use crate::device::Device;
use crate::error::Result;
use crate::memdev::DYNAMIC_PARTITION;
use crate::text;
use crate::tree::optional;

/// What all decoders have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address. Only root may read it; `None` otherwise, and for a decoder that maps nothing.
    pub start: Option<u64>,
    /// Size in bytes; 0 for a decoder that maps nothing.
    pub size: u64,
    /// How many targets addresses alternate between.
    pub interleave_ways: u32,
    /// After how many bytes the next target follows.
    pub interleave_granularity: u32,
    /// Whether firmware forbids to change it.
    pub locked: bool,
}

impl Mapping {
    fn read(device: &Device<'_>) -> Result<Self> {
        let size = device.number("size")?;
        Ok(Self {
            start: if size == 0 {
                None
            } else {
                readable(device.number("start"))?
            },
            size,
            interleave_ways: device.small("interleave_ways")?,
            interleave_granularity: device.small("interleave_granularity")?,
            locked: device.flag("locked")?,
        })
    }
}

/// A window of physical address space in which regions are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDecoder {
    /// `decoder0.0`.
    pub name: String,
    /// The root port that it belongs to.
    pub port: String,
    /// Where and how it maps.
    pub mapping: Mapping,
    /// Whether the platform offers it for volatile memory.
    pub cap_ram: bool,
    /// Whether the platform offers it for persistent memory.
    pub cap_pmem: bool,
    /// Whether accelerators may be mapped.
    pub cap_type2: bool,
    /// Host bridges in interleave order, by the identity of their downstream port.
    pub target_list: Vec<u32>,
    /// The platform's quality-of-service class.
    pub qos_class: Option<i64>,
    /// The name the kernel gives to the next volatile region; `None` where it creates none here.
    pub next_ram_region: Option<String>,
    /// The name the kernel gives to the next persistent region; `None` where it creates none here.
    pub next_pmem_region: Option<String>,
    /// The name of the next region over dynamic capacity; `None` where nobody creates one here.
    pub next_dc_region: Option<String>,
}

impl RootDecoder {
    pub(crate) fn read(device: &Device<'_>, name: &str, port: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            port: port.to_owned(),
            mapping: Mapping::read(device)?,
            cap_ram: device.flag("cap_ram")?,
            cap_pmem: device.flag("cap_pmem")?,
            cap_type2: device.flag("cap_type2")?,
            target_list: device.parsed("target_list", "a list of numbers", text::list)?,
            qos_class: optional(
                device.parsed("qos_class", "a number", |text| text.trim().parse().ok()),
            )?,
            next_ram_region: optional(device.name("create_ram_region"))?.flatten(),
            next_pmem_region: optional(device.name("create_pmem_region"))?.flatten(),
            next_dc_region: optional(device.name("create_dc_region"))?.flatten(),
        })
    }
}

/// A decoder of a host bridge or switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchDecoder {
    /// `decoder1.0`.
    pub name: String,
    /// The port that it belongs to.
    pub port: String,
    /// Where and how it maps.
    pub mapping: Mapping,
    /// Downstream ports in interleave order.
    pub target_list: Vec<u32>,
    /// The region that it is given to.
    pub region: Option<String>,
}

impl SwitchDecoder {
    pub(crate) fn read(device: &Device<'_>, name: &str, port: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            port: port.to_owned(),
            mapping: Mapping::read(device)?,
            target_list: device.parsed("target_list", "a list of numbers", text::list)?,
            region: optional(device.name("region"))?.flatten(),
        })
    }
}

/// A decoder of a memdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointDecoder {
    /// `decoder3.0`.
    pub name: String,
    /// The endpoint that it belongs to.
    pub port: String,
    /// Where and how it maps.
    pub mapping: Mapping,
    /// The partition that it draws from: `ram`, `pmem`, `dynamic_ram_a`; `None` where it was never chosen.
    pub mode: Option<String>,
    /// First device address of its capacity.
    pub dpa_resource: Option<u64>,
    /// Bytes of the memdev that it holds; 0 when it is free.
    pub dpa_size: u64,
    /// The region that it is given to.
    pub region: Option<String>,
}

impl EndpointDecoder {
    pub(crate) fn read(device: &Device<'_>, name: &str, port: &str) -> Result<Self> {
        let dpa_size = device.number("dpa_size")?;
        Ok(Self {
            name: name.to_owned(),
            port: port.to_owned(),
            mapping: Mapping::read(device)?,
            mode: device.name("mode")?.filter(|mode| mode != "none"),
            dpa_resource: if dpa_size == 0 {
                None
            } else {
                Some(device.number("dpa_resource")?)
            },
            dpa_size,
            region: optional(device.name("region"))?.flatten(),
        })
    }
}

/// The word for the partition of an endpoint decoder that draws from it.
#[must_use]
pub fn mode(mode: PartitionMode) -> &'static str {
    match mode {
        PartitionMode::Ram | PartitionMode::Pmem => mode.as_str(),
        PartitionMode::DynamicCapacity => DYNAMIC_PARTITION,
    }
}

/// The number of a decoder within its port: `2` of `decoder3.2`.
#[must_use]
pub fn instance(name: &str) -> Option<u32> {
    text::id_pair(name, "decoder").map(|(_, instance)| instance)
}

/// `None` where only root may read the attribute.
fn readable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.errno() == Some(rustix::io::Errno::ACCESS) => Ok(None),
        other => optional(other),
    }
}
