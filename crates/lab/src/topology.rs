// SPDX-License-Identifier: MIT OR Apache-2.0
//! What hardware a guest has: host bridges, switches, memory devices, the windows of host memory over them.
//!
//! A [`Topology`] is a description in types; [`Topology::arguments`] turns it into QEMU's arguments, and
//! [`catalogue`] holds those that have names.

use serde::Serialize;

pub mod catalogue;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

/// A machine with CXL (or persistent) memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// How people and tests call it.
    pub name: &'static str,
    /// What it is good for, in one line.
    pub description: &'static str,
    /// The guest's own memory, in bytes.
    pub memory: u64,
    /// The end of the memory that could be added, in bytes. Always above `memory`: only then does the firmware describe
    /// memory affinity, and CXL memory gets a node of its own.
    pub memory_limit: u64,
    /// CXL host bridges, in order.
    pub host_bridges: Vec<HostBridge>,
    /// Windows of host memory, in order.
    pub windows: Vec<Window>,
    /// An NVDIMM of so many bytes, outside CXL.
    pub nvdimm: Option<u64>,
    /// Whether firmware tells how fast the memory is, and the way to the first host bridge (HMAT).
    pub speeds: bool,
}

/// A CXL host bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostBridge {
    /// Decoders even where there is only one root port; without them the bridge passes everything through.
    pub decoders_for_one_port: bool,
    /// What is behind its root ports, in order.
    pub ports: Vec<Device>,
}

/// What is plugged into a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// A memory device.
    Memory(MemoryDevice),
    /// A switch with memory devices behind its downstream ports.
    Switch(Switch),
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// The memory devices behind its downstream ports, in order.
    pub devices: Vec<MemoryDevice>,
    /// Whether a function of it (PCI 19e5:a123) takes a fabric manager's commands, for itself and for what is behind it.
    pub managed: bool,
}

/// A type 3 device. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryDevice {
    /// Its serial number, by which it is found: the kernel's own numbers change between boots.
    pub serial: u64,
    /// Volatile memory.
    pub volatile: Option<u64>,
    /// Persistent memory.
    pub persistent: Option<u64>,
    /// Memory that the fabric gives and takes back.
    pub dynamic: Option<DynamicCapacity>,
    /// The host reserves nothing for it: memory far larger than the host's.
    pub sparse: bool,
    /// The file that all its memory is in, for guests that share it; memory of its own otherwise.
    pub file: Option<String>,
}

/// Dynamic capacity of a device: `cxl-add-dynamic-capacity` and `cxl-release-dynamic-capacity` of QEMU's monitor act on it,
/// by the path `/machine/peripheral/memory-SERIAL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DynamicCapacity {
    /// All of it, in bytes; the regions share it equally.
    pub bytes: u64,
    /// How many regions there are.
    pub regions: u8,
}

/// A fixed window of host memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Its size, in bytes.
    pub size: u64,
    /// The host bridges that it interleaves over, by position.
    pub targets: Vec<usize>,
    /// The interleave granularity, in bytes; QEMU's own where there is one target.
    pub granularity: Option<u64>,
}

impl MemoryDevice {
    /// Bytes of all kinds of memory that it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let dynamic = self.dynamic.map(|dynamic| dynamic.bytes);
        let labels = self.persistent.map(|_| MIB);
        [self.volatile, self.persistent, labels, dynamic]
            .into_iter()
            .flatten()
            .sum()
    }
}

impl Topology {
    /// All memory devices, in order.
    pub fn memory_devices(&self) -> impl Iterator<Item = &MemoryDevice> {
        self.host_bridges
            .iter()
            .flat_map(|bridge| &bridge.ports)
            .flat_map(|device| match device {
                Device::Memory(device) => std::slice::from_ref(device),
                Device::Switch(switch) => &switch.devices,
            })
    }

    /// All memory devices, to change them.
    pub(crate) fn memory_devices_mut(&mut self) -> impl Iterator<Item = &mut MemoryDevice> {
        self.host_bridges
            .iter_mut()
            .flat_map(|bridge| &mut bridge.ports)
            .flat_map(|device| match device {
                Device::Memory(device) => std::slice::from_mut(device),
                Device::Switch(switch) => &mut switch.devices,
            })
    }

    /// QEMU's arguments for machine, memory and devices.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Arguments::default();
        let mut machine = vec!["q35,cxl=on,hmat=on,sata=off,smbus=off,i8042=off".to_owned()];
        for (number, window) in self.windows.iter().enumerate() {
            machine.push(format!("cxl-fmw.{number}.size={}", size(window.size)));
            machine.extend(window.targets.iter().enumerate().map(|(position, target)| {
                format!("cxl-fmw.{number}.targets.{position}=bridge{target}")
            }));
            machine.extend(window.granularity.map(|granularity| {
                format!(
                    "cxl-fmw.{number}.interleave-granularity={}",
                    size(granularity)
                )
            }));
        }
        if self.nvdimm.is_some() {
            machine.push("nvdimm=on".to_owned());
        }
        arguments.push("-M", machine.join(","));
        arguments.push(
            "-m",
            format!(
                "{},maxmem={},slots=8",
                size(self.memory),
                size(self.memory_limit)
            ),
        );
        for (number, bridge) in self.host_bridges.iter().enumerate() {
            arguments.host_bridge(number, bridge);
        }
        if self.speeds {
            arguments.speeds(self.memory);
        }
        if let Some(bytes) = self.nvdimm {
            arguments.backend("nvdimm-memory", bytes, true);
            arguments.push(
                "-device",
                "nvdimm,id=nvdimm0,memdev=nvdimm-memory,label-size=2M",
            );
        }
        arguments.list
    }
}

#[derive(Default)]
struct Arguments {
    list: Vec<String>,
    root_ports: usize,
}

impl Arguments {
    fn push(&mut self, option: &str, value: impl Into<String>) {
        self.list.extend([option.to_owned(), value.into()]);
    }

    fn host_bridge(&mut self, number: usize, bridge: &HostBridge) {
        // Each bridge needs room on the bus for the ports below it.
        let bus = 12 + 32 * number;
        let decoders = if bridge.decoders_for_one_port {
            ",hdm_for_passthrough=true"
        } else {
            ""
        };
        self.push(
            "-device",
            format!("pxb-cxl,bus_nr={bus},bus=pcie.0,id=bridge{number}{decoders}"),
        );
        for (position, device) in bridge.ports.iter().enumerate() {
            let port = self.root_ports;
            self.root_ports += 1;
            self.push(
                "-device",
                format!(
                    "cxl-rp,port={position},bus=bridge{number},id=port{port},chassis=0,slot={}",
                    port + 1
                ),
            );
            match device {
                Device::Memory(device) => self.memory_device(device, &format!("port{port}")),
                Device::Switch(switch) => {
                    // The function that takes commands is beside the upstream port.
                    let place = if switch.managed {
                        ",addr=0.0,multifunction=on"
                    } else {
                        ""
                    };
                    self.push(
                        "-device",
                        format!("cxl-upstream,bus=port{port},id=switch{port}{place}"),
                    );
                    if switch.managed {
                        self.push(
                            "-device",
                            format!(
                                "cxl-switch-mailbox-cci,bus=port{port},addr=0.1,target=switch{port}"
                            ),
                        );
                    }
                    for (position, device) in switch.devices.iter().enumerate() {
                        let downstream = format!("switch{port}-port{position}");
                        self.push(
                            "-device",
                            format!(
                                "cxl-downstream,port={position},bus=switch{port},id={downstream},chassis={},slot={position}",
                                port + 1
                            ),
                        );
                        self.memory_device(device, &downstream);
                    }
                }
            }
        }
    }

    /// Node 0 is all of the machine; node 1 is the way to the first host bridge, farther and narrower.
    fn speeds(&mut self, memory: u64) {
        self.backend("machine-memory", memory, false);
        self.push("-numa", "node,nodeid=0,cpus=0-1,memdev=machine-memory");
        self.push("-numa", "node,nodeid=1");
        self.push(
            "-object",
            "acpi-generic-port,id=way0,pci-bus=bridge0,node=1",
        );
        for (target, latency, bandwidth) in [(0, 80, "20G"), (1, 160, "10G")] {
            let locality =
                format!("hmat-lb,initiator=0,target={target},hierarchy=memory,data-type=access");
            self.push("-numa", format!("{locality}-latency,latency={latency}"));
            self.push(
                "-numa",
                format!("{locality}-bandwidth,bandwidth={bandwidth}"),
            );
        }
    }

    fn memory_device(&mut self, device: &MemoryDevice, bus: &str) {
        let serial = device.serial;
        let mut options = vec![format!(
            "cxl-type3,bus={bus},id=memory-{serial:x},sn={serial:#x}"
        )];
        let mut memory = Memory {
            device,
            arguments: self,
            given: 0,
        };
        if let Some(bytes) = device.volatile {
            let backend = memory.backend("volatile", bytes);
            options.push(format!("volatile-memdev={backend}"));
        }
        if let Some(bytes) = device.persistent {
            let backend = memory.backend("persistent", bytes);
            let labels = memory.backend("labels", MIB);
            options.push(format!("persistent-memdev={backend},lsa={labels}"));
        }
        if let Some(DynamicCapacity { bytes, regions }) = device.dynamic {
            let backend = memory.backend("dynamic", bytes);
            options.push(format!(
                "volatile-dc-memdev={backend},num-dc-regions={regions}"
            ));
        }
        self.push("-device", options.join(","));
    }

    fn backend(&mut self, id: &str, bytes: u64, sparse: bool) {
        let reserve = if sparse { ",reserve=off" } else { "" };
        self.push(
            "-object",
            format!(
                "memory-backend-ram,id={id},size={},share=off{reserve}",
                size(bytes)
            ),
        );
    }
}

/// The memory of one device, one kind after the other.
struct Memory<'a> {
    device: &'a MemoryDevice,
    arguments: &'a mut Arguments,
    /// The bytes of the device's file that have their use.
    given: u64,
}

impl Memory<'_> {
    /// Adds memory of one kind, and returns its name.
    fn backend(&mut self, kind: &str, bytes: u64) -> String {
        let id = format!("{kind}-{:x}", self.device.serial);
        match &self.device.file {
            None => self.arguments.backend(&id, bytes, self.device.sparse),
            Some(file) => self.arguments.push(
                "-object",
                format!(
                    "memory-backend-file,id={id},size={},share=on,mem-path={file},offset={}",
                    size(bytes),
                    self.given
                ),
            ),
        }
        self.given += bytes;
        id
    }
}

/// A size as QEMU and people write it: in the largest unit that divides it.
fn size(bytes: u64) -> String {
    [(GIB, "G"), (MIB, "M"), (1 << 10, "K")]
        .into_iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit))
        .map_or_else(
            || bytes.to_string(),
            |(unit, letter)| format!("{}{letter}", bytes / unit),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_divides_them() {
        let written = [9218 * MIB, 4 * GIB, 8 << 10, 1000].map(size);
        assert_eq!(written, ["9218M", "4G", "8K", "1000"]);
    }

    #[test]
    fn names_and_serial_numbers_are_unique() {
        let all = catalogue::all();
        for (position, topology) in all.iter().enumerate() {
            assert!(
                all[..position]
                    .iter()
                    .all(|other| other.name != topology.name)
            );
            let serials: Vec<u64> = topology
                .memory_devices()
                .map(|device| device.serial)
                .collect();
            let expected: Vec<u64> = (catalogue::FIRST_SERIAL..).take(serials.len()).collect();
            assert_eq!(serials, expected, "{}", topology.name);
        }
    }

    #[test]
    fn every_topology_leaves_room_for_memory_affinity() {
        for topology in catalogue::all() {
            assert!(topology.memory_limit > topology.memory, "{}", topology.name);
        }
    }

    #[test]
    fn arguments_are_those_on_which_the_stock_kernel_was_seen_to_work() {
        let text: Vec<String> = catalogue::all()
            .iter()
            .map(|topology| {
                let arguments = topology.arguments().join(" ").replace(" -", "\n    -");
                format!("{}\n    {arguments}\n", topology.name)
            })
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = catalogue::find("tow").unwrap_err().to_string();
        assert!(
            error.contains("'tow'") && error.contains("bridges-2x2"),
            "{error}"
        );
    }
}
