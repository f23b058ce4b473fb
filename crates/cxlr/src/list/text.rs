// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tree that is read at a glance.

use std::fmt::Write;

use cxl_sysfs::Snapshot;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::decoder::RootDecoder;
use cxl_sysfs::extent::Extent;
use cxl_sysfs::memdev::Memdev;
use cxl_sysfs::memdev::Refusals;
use cxl_sysfs::port::PortKind;
use cxl_sysfs::region::Region;
use region_policy::matrix::PartitionMode;
use region_policy::online_type::Configured;

use super::Listing;
use crate::size::Size;

/// Something to show, and what hangs below it.
struct Branch {
    line: String,
    below: Vec<Branch>,
}

impl Branch {
    fn leaf(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            below: Vec::new(),
        }
    }

    fn draw(&self, out: &mut String) {
        out.push_str(&self.line);
        out.push('\n');
        self.draw_below(out, "");
    }

    fn draw_below(&self, out: &mut String, indent: &str) {
        for (number, branch) in self.below.iter().enumerate() {
            let last = number + 1 == self.below.len();
            let (knee, rail) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            out.push_str(indent);
            out.push_str(knee);
            out.push_str(&branch.line);
            out.push('\n');
            branch.draw_below(out, &format!("{indent}{rail}"));
        }
    }
}

/// Everything.
#[must_use]
pub fn all(listing: &Listing) -> String {
    let snapshot = &listing.snapshot;
    let mut out = String::new();
    for root in snapshot
        .ports
        .iter()
        .filter(|port| port.kind == PortKind::Root)
    {
        let memdevs = Branch {
            line: "memdevs".to_owned(),
            below: snapshot
                .memdevs
                .iter()
                .map(|memdev| Branch::leaf(memdev_line(snapshot, memdev)))
                .collect(),
        };
        let decoders = snapshot
            .root_decoders
            .iter()
            .filter(|decoder| decoder.port == root.name);
        let mut below: Vec<Branch> = decoders.map(|decoder| window(listing, decoder)).collect();
        below.insert(0, memdevs);
        Branch {
            line: format!(
                "{} ({})",
                root.name,
                root.host.as_deref().unwrap_or("unknown platform")
            ),
            below,
        }
        .draw(&mut out);
    }
    let foreign: Vec<&DaxDevice> = snapshot
        .dax_devices
        .iter()
        .filter(|device| device.region().is_none())
        .collect();
    if !foreign.is_empty() {
        let below = foreign
            .into_iter()
            .map(|device| dax(listing, device))
            .collect();
        Branch {
            line: "dax devices outside of CXL regions".to_owned(),
            below,
        }
        .draw(&mut out);
    }
    if out.is_empty() {
        out.push_str("no CXL bus here (are cxl_acpi, cxl_pci and cxl_mem loaded?)\n");
    }
    if let Some(system_default) = snapshot.system_default {
        let _ = writeln!(
            out,
            "new memory comes {system_default} by default; {}",
            drivers(snapshot)
        );
    }
    out
}

/// One region and what hangs below it; nothing where it is not there.
#[must_use]
pub fn region(listing: &Listing, name: &str) -> String {
    let mut out = String::new();
    if let Some(found) = listing.snapshot.region(name) {
        region_branch(listing, found).draw(&mut out);
    }
    out
}

/// Some dax devices.
#[must_use]
pub fn dax_devices(listing: &Listing, names: &[&str]) -> String {
    let mut out = String::new();
    for device in listing
        .snapshot
        .dax_devices
        .iter()
        .filter(|device| names.contains(&device.name.as_str()))
    {
        dax(listing, device).draw(&mut out);
    }
    out
}

fn drivers(snapshot: &Snapshot) -> String {
    let ours: Vec<&str> = snapshot
        .cxl_drivers
        .iter()
        .map(String::as_str)
        .filter(|name| {
            matches!(
                *name,
                "cxl_sysram_region"
                    | "cxl_dax_kmem_region"
                    | "cxl_devdax_region"
                    | "cxl_dax_device_region"
            )
        })
        .collect();
    if ours.is_empty() {
        "no region drivers are loaded".to_owned()
    } else {
        format!("region drivers: {}", ours.join(", "))
    }
}

fn memdev_line(snapshot: &Snapshot, memdev: &Memdev) -> String {
    let mut line = format!("{}  serial {:#x}", memdev.name, memdev.serial);
    for mode in PartitionMode::ALL {
        let size = memdev.capacity(mode);
        if size > 0 {
            let free = snapshot.free_capacity(memdev, mode);
            let _ = write!(line, "  {mode} {}", Size(size));
            if free == 0 {
                line.push_str(" (in use)");
            } else if free < size {
                let _ = write!(line, " ({} free)", Size(free));
            }
        }
    }
    if let Some(host) = &memdev.host {
        let _ = write!(line, "  {host}");
    }
    let bridge = snapshot.endpoint_of(&memdev.name).and_then(|endpoint| {
        let path = snapshot.path_to_root(endpoint);
        path.iter()
            .rev()
            .nth(1)
            .and_then(|port| port.parent_dport.clone())
    });
    if let Some(bridge) = bridge {
        let _ = write!(line, " below {bridge}");
    }
    if let Some(node) = memdev.numa_node {
        let _ = write!(line, "  node {node}");
    }
    if let Some(Refusals { count: 1.., latest }) = &memdev.refusals {
        let why = latest.as_deref().unwrap_or("not known");
        let _ = write!(line, "  last refusal: {why}");
    }
    if !memdev.enabled {
        line.push_str("  DISABLED");
    }
    line
}

fn window(listing: &Listing, decoder: &RootDecoder) -> Branch {
    let snapshot = &listing.snapshot;
    let mapping = &decoder.mapping;
    let mut line = format!("{}  {}", decoder.name, Size(mapping.size));
    if let Some(start) = mapping.start {
        let _ = write!(line, " at {start:#x}");
    }
    let bridges: Vec<&str> = decoder
        .target_list
        .iter()
        .filter_map(|id| snapshot.port(&decoder.port)?.dports.get(id))
        .map(String::as_str)
        .collect();
    if mapping.interleave_ways > 1 {
        let _ = write!(
            line,
            "  x{} every {} bytes over {}",
            mapping.interleave_ways,
            mapping.interleave_granularity,
            bridges.join(", ")
        );
    } else {
        let _ = write!(line, "  over {}", bridges.join(", "));
    }
    let types: Vec<&str> = [("ram", decoder.cap_ram), ("pmem", decoder.cap_pmem)]
        .iter()
        .filter(|(_, capable)| *capable)
        .map(|(name, _)| *name)
        .collect();
    let _ = write!(line, "  for {}", types.join(" and "));
    let below = snapshot
        .regions_of(&decoder.name)
        .map(|region| region_branch(listing, region))
        .collect();
    Branch { line, below }
}

fn region_branch(listing: &Listing, region: &Region) -> Branch {
    let snapshot = &listing.snapshot;
    let mut line = format!(
        "{}  {}",
        region.name,
        snapshot
            .partition_mode(region)
            .map_or("of unknown type", PartitionMode::as_str)
    );
    if region.size > 0 {
        let _ = write!(line, " {}", Size(region.size));
    }
    if let Some(address) = region.resource {
        let _ = write!(line, " at {address:#x}");
    }
    if region.interleave_ways > 1 {
        let _ = write!(
            line,
            "  x{} every {} bytes",
            region.interleave_ways, region.interleave_granularity
        );
    }
    let _ = write!(
        line,
        "  driver {}",
        region.driver.as_deref().unwrap_or("none")
    );
    if !region.committed {
        line.push_str("  NOT COMMITTED");
    }
    if region.locked {
        line.push_str("  locked");
    }
    let mut below = Vec::new();
    let targets: Vec<String> = region
        .targets
        .iter()
        .map(|target| target_name(snapshot, target.as_deref()))
        .collect();
    if !targets.is_empty() {
        below.push(Branch::leaf(format!("targets {}", targets.join(" "))));
    }
    let extents = snapshot
        .extents_of(&region.name)
        .map(|extent| Branch::leaf(extent_line(extent)));
    let devices = snapshot
        .dax_devices_of(&region.name)
        .map(|device| dax(listing, device));
    let devices = extents.chain(devices);
    match (&region.sysram, &region.devdax) {
        (Some(sysram), _) => below.push(Branch {
            line: format!(
                "{}  policy {}  driver {}",
                sysram.name,
                Configured(sysram.online_type),
                sysram.driver.as_deref().unwrap_or("none")
            ),
            below: devices.collect(),
        }),
        (None, Some(devdax)) => below.push(Branch {
            line: format!(
                "{}  mode {}  driver {}",
                devdax.name,
                Configured(devdax.dax_mode),
                devdax.driver.as_deref().unwrap_or("none")
            ),
            below: devices.collect(),
        }),
        (None, None) => below.extend(devices),
    }
    Branch { line, below }
}

/// An extent as people read it.
#[must_use]
pub fn extent_line(extent: &Extent) -> String {
    let mut line = format!(
        "{}  {} at {:#x}",
        extent.name,
        Size(extent.length),
        extent.offset
    );
    if let Some(tag) = extent.tag {
        let _ = write!(line, "  tag {tag}");
    }
    if extent.sequence > 0 {
        let _ = write!(line, "  sequence {}", extent.sequence);
    }
    let _ = write!(line, "  {}", extent.state);
    line
}

/// A target as the memdev that people know, with the decoder that the kernel knows.
fn target_name(snapshot: &Snapshot, target: Option<&str>) -> String {
    let Some(target) = target else {
        return "-".to_owned();
    };
    let memdev = snapshot
        .endpoint_decoder(target)
        .and_then(|decoder| snapshot.memdev_of(decoder));
    memdev.map_or_else(
        || target.to_owned(),
        |memdev| format!("{} ({target})", memdev.name),
    )
}

fn dax(listing: &Listing, device: &DaxDevice) -> Branch {
    let mut line = format!(
        "{}  {}  driver {}",
        device.name,
        Size(device.size),
        device.driver.as_deref().unwrap_or("none")
    );
    if let Some(state) = device.state.as_ref().or(device.hotplug.as_ref()) {
        let _ = write!(line, "  {state}");
    }
    if let Some(node) = device.target_node {
        let _ = write!(line, "  node {node}");
    }
    if let Some(tag) = device.tag {
        let _ = write!(line, "  tag {tag}");
    }
    let below = listing
        .blocks
        .get(&device.name)
        .map(|census| Branch::leaf(census.to_string()))
        .into_iter()
        .collect();
    Branch { line, below }
}
