// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON with the key names of `cxl list` and `daxctl list` where they have them, and our own where they have none.
//!
//! Our own keys: `driver`, `policy`, `sysram_region`, `extents`, `locked` on a region; `dynamic_ram_a_size`,
//! `refused_offers`, `last_refusal` on a memdev; `driver`, `uuid`, `plug_state`, `memblocks`, `nodes` on a dax device;
//! `system` for what belongs to the whole machine. Numbers are decimal and sizes are bytes, as `cxl list` prints them
//! without `-u`.

use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::decoder::EndpointDecoder;
use cxl_sysfs::decoder::Mapping;
use cxl_sysfs::decoder::RootDecoder;
use cxl_sysfs::decoder::SwitchDecoder;
use cxl_sysfs::extent::Extent;
use cxl_sysfs::memdev::Memdev;
use cxl_sysfs::port::Port;
use cxl_sysfs::port::PortKind;
use cxl_sysfs::region::Region;
use region_policy::matrix::PartitionMode;
use region_policy::online_type::Configured;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Listing;

/// An object whose absent values are left out, as `cxl list` does.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn with(mut self, key: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(Value::Null) | Err(_) => {}
            Ok(value) => {
                self.0.insert(key.to_owned(), value);
            }
        }
        self
    }

    fn disabled_unless(self, enabled: bool) -> Self {
        self.with("state", (!enabled).then_some("disabled"))
    }

    fn value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Everything.
#[must_use]
pub fn all(listing: &Listing) -> Value {
    let snapshot = &listing.snapshot;
    let ports = |kind: PortKind| snapshot.ports.iter().filter(move |port| port.kind == kind);
    let foreign = snapshot
        .dax_devices
        .iter()
        .filter(|device| device.region().is_none());
    json!({
        "system": Object::default()
            .with("auto_online_blocks", snapshot.system_default.map(region_policy::online_type::OnlineType::as_str))
            .with("block_size", snapshot.block_size)
            .with("region_drivers", snapshot.cxl_drivers.iter().filter(|name| name.ends_with("_region")).collect::<Vec<_>>())
            .value(),
        "buses": ports(PortKind::Root).map(bus).collect::<Vec<_>>(),
        "ports": ports(PortKind::Switch).map(port).collect::<Vec<_>>(),
        "endpoints": ports(PortKind::Endpoint).map(endpoint).collect::<Vec<_>>(),
        "memdevs": snapshot.memdevs.iter().map(memdev).collect::<Vec<_>>(),
        "root decoders": snapshot.root_decoders.iter().map(|decoder| root_decoder(listing, decoder)).collect::<Vec<_>>(),
        "port decoders": snapshot.switch_decoders.iter().map(switch_decoder).collect::<Vec<_>>(),
        "endpoint decoders": snapshot.endpoint_decoders.iter().map(endpoint_decoder).collect::<Vec<_>>(),
        "regions": snapshot.regions.iter().map(|region| region_object(listing, region)).collect::<Vec<_>>(),
        "dax devices": foreign.map(|device| dax_device(listing, device)).collect::<Vec<_>>(),
    })
}

/// One region; null where it is not there.
#[must_use]
pub fn region(listing: &Listing, name: &str) -> Value {
    listing
        .snapshot
        .region(name)
        .map_or(Value::Null, |region| region_object(listing, region))
}

/// Some dax devices.
#[must_use]
pub fn dax_devices(listing: &Listing, names: &[&str]) -> Value {
    let devices = listing
        .snapshot
        .dax_devices
        .iter()
        .filter(|device| names.contains(&device.name.as_str()));
    devices.map(|device| dax_device(listing, device)).collect()
}

fn bus(port: &Port) -> Value {
    // The only other platform is the kernel's own test module.
    let acpi = port
        .host
        .as_deref()
        .is_some_and(|host| host.starts_with("ACPI0017"));
    Object::default()
        .with("bus", &port.name)
        .with("provider", if acpi { "ACPI.CXL" } else { "cxl_test" })
        .with("nr_dports", port.dports.len())
        .with("dports", dports(port))
        .value()
}

fn dports(port: &Port) -> Vec<Value> {
    port.dports
        .iter()
        .map(|(id, host)| json!({ "dport": host, "id": id }))
        .collect()
}

fn port(port: &Port) -> Value {
    Object::default()
        .with("port", &port.name)
        .with("host", &port.host)
        .with("parent", &port.parent)
        .with("parent_dport", &port.parent_dport)
        .with("decoders_committed", port.decoders_committed)
        .with("nr_dports", port.dports.len())
        .with("dports", dports(port))
        .value()
}

fn endpoint(port: &Port) -> Value {
    Object::default()
        .with("endpoint", &port.name)
        .with("host", &port.host)
        .with("parent", &port.parent)
        .with("parent_dport", &port.parent_dport)
        .with("decoders_committed", port.decoders_committed)
        .value()
}

fn memdev(memdev: &Memdev) -> Value {
    Object::default()
        .with("memdev", &memdev.name)
        .with("pmem_size", Some(memdev.pmem_size).filter(|size| *size > 0))
        .with("ram_size", Some(memdev.ram_size).filter(|size| *size > 0))
        .with(
            "dynamic_ram_a_size",
            Some(memdev.dynamic_size).filter(|size| *size > 0),
        )
        .with(
            "refused_offers",
            memdev.refusals.as_ref().map(|refusals| refusals.count),
        )
        .with(
            "last_refusal",
            memdev
                .refusals
                .as_ref()
                .and_then(|refusals| refusals.latest.as_deref()),
        )
        .with("serial", memdev.serial)
        .with("numa_node", memdev.numa_node)
        .with("host", &memdev.host)
        .with("firmware_version", &memdev.firmware_version)
        .disabled_unless(memdev.enabled)
        .value()
}

fn mapped(object: Object, mapping: &Mapping) -> Object {
    object
        .with("resource", mapping.start)
        .with("size", Some(mapping.size).filter(|size| *size > 0))
        .with("interleave_ways", mapping.interleave_ways)
        .with(
            "interleave_granularity",
            (mapping.interleave_ways > 1).then_some(mapping.interleave_granularity),
        )
}

fn root_decoder(listing: &Listing, decoder: &RootDecoder) -> Value {
    let free = listing
        .snapshot
        .free_ranges(decoder)
        .into_iter()
        .map(|range| range.end - range.start)
        .max();
    mapped(
        Object::default().with("decoder", &decoder.name),
        &decoder.mapping,
    )
    .with(
        "max_available_extent",
        decoder.mapping.start.map(|_| free.unwrap_or(0)),
    )
    .with("pmem_capable", decoder.cap_pmem.then_some(true))
    .with("volatile_capable", decoder.cap_ram.then_some(true))
    .with("accelmem_capable", decoder.cap_type2.then_some(true))
    .with("qos_class", decoder.qos_class.filter(|class| *class >= 0))
    .with("nr_targets", decoder.target_list.len())
    .with(
        "targets",
        targets(listing, &decoder.port, &decoder.target_list),
    )
    .value()
}

fn targets(listing: &Listing, port: &str, ids: &[u32]) -> Vec<Value> {
    let dports = listing.snapshot.port(port).map(|port| &port.dports);
    let target = |(position, id): (usize, &u32)| {
        let host = dports.and_then(|dports| dports.get(id));
        Object::default()
            .with("target", host)
            .with("position", position)
            .with("id", id)
            .value()
    };
    ids.iter().enumerate().map(target).collect()
}

fn switch_decoder(decoder: &SwitchDecoder) -> Value {
    mapped(
        Object::default().with("decoder", &decoder.name),
        &decoder.mapping,
    )
    .with("region", &decoder.region)
    .disabled_unless(decoder.mapping.size > 0)
    .with("nr_targets", decoder.target_list.len())
    .value()
}

fn endpoint_decoder(decoder: &EndpointDecoder) -> Value {
    mapped(
        Object::default().with("decoder", &decoder.name),
        &decoder.mapping,
    )
    .with("region", &decoder.region)
    .disabled_unless(decoder.mapping.size > 0)
    .with("dpa_resource", decoder.dpa_resource)
    .with("dpa_size", Some(decoder.dpa_size).filter(|size| *size > 0))
    .with("mode", &decoder.mode)
    .value()
}

fn region_object(listing: &Listing, region: &Region) -> Value {
    let snapshot = &listing.snapshot;
    let mappings = region
        .targets
        .iter()
        .enumerate()
        .filter_map(|(position, target)| {
            let decoder = snapshot.endpoint_decoder(target.as_deref()?)?;
            let memdev = snapshot.memdev_of(decoder).map(|memdev| &memdev.name);
            Some(
                Object::default()
                    .with("position", position)
                    .with("memdev", memdev)
                    .with("decoder", &decoder.name)
                    .value(),
            )
        });
    let sysram = region.sysram.as_ref();
    let devdax = region.devdax.as_ref();
    Object::default()
        .with("region", &region.name)
        .with("resource", region.resource)
        .with("size", region.size)
        .with(
            "type",
            snapshot.partition_mode(region).map(PartitionMode::as_str),
        )
        .with("interleave_ways", region.interleave_ways)
        .with("interleave_granularity", region.interleave_granularity)
        .with(
            "decode_state",
            if region.committed { "commit" } else { "reset" },
        )
        .disabled_unless(region.driver.is_some())
        .with("driver", &region.driver)
        .with(
            "policy",
            sysram.map(|sysram| Configured(sysram.online_type).to_string()),
        )
        .with(
            "sysram_region",
            sysram.map(|sysram| {
                Object::default()
                    .with("name", &sysram.name)
                    .with("driver", &sysram.driver)
                    .value()
            }),
        )
        .with(
            "dax_mode",
            devdax.map(|devdax| Configured(devdax.dax_mode).to_string()),
        )
        .with(
            "dax_region",
            devdax.map(|devdax| {
                Object::default()
                    .with("name", &devdax.name)
                    .with("driver", &devdax.driver)
                    .value()
            }),
        )
        .with("locked", region.locked.then_some(true))
        .with("root decoder", &region.decoder)
        .with("mappings", mappings.collect::<Vec<_>>())
        .with("extents", extents(listing, region))
        .with("daxregion", dax_region(listing, region))
        .value()
}

/// Where there can be any.
fn extents(listing: &Listing, region: &Region) -> Option<Vec<Value>> {
    let snapshot = &listing.snapshot;
    let dynamic = snapshot.partition_mode(region) == Some(PartitionMode::DynamicCapacity);
    dynamic.then(|| snapshot.extents_of(&region.name).map(extent).collect())
}

/// An extent.
#[must_use]
pub fn extent(extent: &Extent) -> Value {
    Object::default()
        .with("extent", &extent.name)
        .with("region", &extent.region)
        .with("id", extent.number)
        .with("offset", extent.offset)
        .with("length", extent.length)
        .with("uuid", extent.tag.map(|tag| tag.to_string()))
        .with(
            "sequence",
            Some(extent.sequence).filter(|sequence| *sequence > 0),
        )
        .with("state", &extent.state)
        .value()
}

fn dax_region(listing: &Listing, region: &Region) -> Option<Value> {
    let devices: Vec<&DaxDevice> = listing.snapshot.dax_devices_of(&region.name).collect();
    let first = devices.first()?;
    Some(
        Object::default()
            .with("id", region.id())
            .with("size", region.size)
            .with("align", first.align)
            .with(
                "devices",
                devices
                    .iter()
                    .map(|device| dax_device(listing, device))
                    .collect::<Vec<_>>(),
            )
            .value(),
    )
}

fn dax_device(listing: &Listing, device: &DaxDevice) -> Value {
    let census = listing.blocks.get(&device.name);
    let movable = census
        .filter(|census| census.online_blocks() > 0)
        .map(|census| {
            census.online.keys().all(|zone| {
                cxl_sysfs::memory::zone_kind(zone) == Some(region_policy::zone::ZoneKind::Movable)
            })
        });
    let mapping = |range: &std::ops::Range<u64>| json!({ "start": range.start, "end": range.end - 1, "size": range.end - range.start });
    Object::default()
        .with("chardev", &device.name)
        .with("size", device.size)
        .with("target_node", device.target_node)
        .with("align", device.align)
        .with(
            "mode",
            match device.driver.as_deref() {
                Some("kmem") => "system-ram",
                // As daxctl has it, which knows the driver by the one file system that uses it.
                Some("fsdev_dax") => "famfs",
                _ => "devdax",
            },
        )
        .with(
            "online_memblocks",
            census.map(cxl_sysfs::memory::Census::online_blocks),
        )
        .with(
            "total_memblocks",
            census.map(cxl_sysfs::memory::Census::present),
        )
        .with("movable", movable)
        .disabled_unless(device.driver.is_some())
        .with("driver", &device.driver)
        .with(
            "plug_state",
            device.state.as_ref().or(device.hotplug.as_ref()),
        )
        .with("uuid", device.tag.map(|tag| tag.to_string()))
        .with("memblocks", census)
        .with("nodes", listing.nodes.get(&device.name))
        .with(
            "mappings",
            device.ranges.iter().map(mapping).collect::<Vec<_>>(),
        )
        .value()
}
