// SPDX-License-Identifier: MIT OR Apache-2.0
//! The topologies that have names.

use super::Device;
use super::DynamicCapacity;
use super::GIB;
use super::HostBridge;
use super::MIB;
use super::MemoryDevice;
use super::Switch;
use super::Topology;
use super::Window;
use crate::error::Error;
use crate::error::Result;

/// The serial number of a topology's first memory device; the next have the numbers that follow.
pub const FIRST_SERIAL: u64 = 0x100;

/// Finds a topology by name.
///
/// # Errors
/// When there is none; the error lists those that exist.
pub fn find(name: &str) -> Result<Topology> {
    let all = all();
    let known = all.iter().map(|topology| topology.name).collect();
    all.into_iter()
        .find(|topology| topology.name == name)
        .ok_or_else(|| Error::UnknownTopology {
            name: name.to_owned(),
            known,
        })
}

/// All topologies that have names.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a list, one entry after the other")]
pub fn all() -> Vec<Topology> {
    vec![
        Topology {
            host_bridges: vec![bridge(volatile(0, 1, GIB))],
            ..machine(
                "one",
                "one device of 1 GiB behind a passthrough host bridge: room for one region",
            )
        },
        Topology {
            host_bridges: vec![HostBridge {
                decoders_for_one_port: true,
                ports: volatile(0, 1, GIB),
            }],
            ..machine(
                "one-hdm",
                "one device of 1 GiB behind a host bridge with decoders: several regions, kexec",
            )
        },
        Topology {
            host_bridges: vec![bridge(volatile(0, 1, GIB))],
            speeds: true,
            ..machine(
                "speeds",
                "one device of 1 GiB; firmware tells how fast the machine's own memory and the way to the device are",
            )
        },
        Topology {
            host_bridges: vec![bridge(volatile(0, 2, 512 * MIB))],
            ..machine(
                "x2",
                "two devices of 512 MiB below one host bridge, to interleave",
            )
        },
        Topology {
            host_bridges: vec![bridge(volatile(0, 4, 512 * MIB))],
            ..machine(
                "x4",
                "four devices of 512 MiB below one host bridge, to interleave",
            )
        },
        Topology {
            host_bridges: vec![
                bridge(volatile(0, 2, 512 * MIB)),
                bridge(volatile(2, 2, 512 * MIB)),
            ],
            windows: vec![
                Window {
                    granularity: Some(8 << 10),
                    ..window(4 * GIB, &[0, 1])
                },
                window(4 * GIB, &[0]),
                window(4 * GIB, &[1]),
            ],
            ..machine(
                "bridges-2x2",
                "two host bridges with two devices of 512 MiB each: a window over both, one over each",
            )
        },
        Topology {
            host_bridges: vec![bridge(vec![Device::Switch(Switch {
                devices: (0..4).map(|number| memory(number, 512 * MIB)).collect(),
                managed: false,
            })])],
            ..machine(
                "switch-4",
                "four devices of 512 MiB behind a switch: room for one region",
            )
        },
        Topology {
            host_bridges: vec![bridge(volatile(0, 4, GIB))],
            windows: vec![window(8 * GIB, &[0])],
            ..machine(
                "four",
                "four devices of 1 GiB below one host bridge, one region each",
            )
        },
        Topology {
            host_bridges: vec![bridge(volatile(0, 4, GIB)), bridge(volatile(4, 4, GIB))],
            windows: vec![window(8 * GIB, &[0]), window(8 * GIB, &[1])],
            ..machine(
                "eight",
                "eight devices of 1 GiB below two host bridges, one region each",
            )
        },
        Topology {
            host_bridges: vec![bridge(volatile(0, 8, GIB))],
            windows: vec![window(16 * GIB, &[0])],
            ..machine(
                "eight-one-bridge",
                "eight devices of 1 GiB below one host bridge: its decoders suffice for four regions",
            )
        },
        Topology {
            host_bridges: vec![bridge(vec![Device::Memory(MemoryDevice {
                volatile: None,
                persistent: Some(GIB),
                ..memory(0, 0)
            })])],
            ..machine("pmem", "one device of 1 GiB persistent memory")
        },
        Topology {
            host_bridges: vec![bridge(vec![
                Device::Memory(MemoryDevice {
                    persistent: Some(GIB),
                    ..memory(0, 512 * MIB)
                }),
                Device::Memory(memory(1, 512 * MIB)),
            ])],
            windows: vec![window(8 * GIB, &[0])],
            ..machine(
                "mixed",
                "one device with 512 MiB volatile and 1 GiB persistent memory, one with 512 MiB volatile",
            )
        },
        sparse(
            "sparse-16g",
            "one device of 16 GiB that the host does not back",
            16,
            4,
        ),
        sparse(
            "sparse-64g",
            "one device of 64 GiB that the host does not back",
            64,
            4,
        ),
        sparse(
            "sparse-256g",
            "one device of 256 GiB that the host does not back",
            256,
            8,
        ),
        Topology {
            host_bridges: vec![bridge(vec![Device::Memory(dynamic(0, 2 * GIB, 1))])],
            ..machine(
                "dc",
                "one device of 2 GiB dynamic capacity, and no other memory",
            )
        },
        Topology {
            host_bridges: vec![HostBridge {
                decoders_for_one_port: true,
                ports: vec![Device::Memory(MemoryDevice {
                    volatile: Some(512 * MIB),
                    ..dynamic(0, 2 * GIB, 1)
                })],
            }],
            ..machine(
                "dc-static",
                "one device of 512 MiB volatile memory and 2 GiB dynamic capacity",
            )
        },
        Topology {
            host_bridges: vec![HostBridge {
                decoders_for_one_port: true,
                ports: vec![Device::Memory(dynamic(0, 2 * GIB, 2))],
            }],
            ..machine(
                "dc-two",
                "one device of 2 GiB dynamic capacity in two regions",
            )
        },
        Topology {
            host_bridges: vec![bridge(vec![Device::Switch(Switch {
                devices: vec![dynamic(0, 2 * GIB, 1)],
                managed: true,
            })])],
            ..machine(
                "dc-switch",
                "one device of 2 GiB dynamic capacity behind a switch that takes a fabric manager's commands",
            )
        },
        Topology {
            host_bridges: vec![HostBridge {
                decoders_for_one_port: true,
                ports: vec![Device::Switch(Switch {
                    devices: vec![dynamic(0, 2 * GIB, 1), dynamic(1, 2 * GIB, 1)],
                    managed: true,
                })],
            }],
            ..machine(
                "dc-switch-two",
                "two devices of 2 GiB dynamic capacity each behind such a switch",
            )
        },
        Topology {
            windows: Vec::new(),
            memory_limit: 40 * GIB,
            nvdimm: Some(9218 * MIB),
            ..machine(
                "nvdimm",
                "an NVDIMM of 9 GiB and no CXL, for the tools' own dax tests",
            )
        },
    ]
}

fn machine(name: &'static str, description: &'static str) -> Topology {
    Topology {
        name,
        description,
        memory: 2 * GIB,
        memory_limit: 8 * GIB,
        host_bridges: Vec::new(),
        windows: vec![window(4 * GIB, &[0])],
        nvdimm: None,
        speeds: false,
    }
}

fn sparse(
    name: &'static str,
    description: &'static str,
    gibibytes: u64,
    memory_gibibytes: u64,
) -> Topology {
    let device = MemoryDevice {
        sparse: true,
        ..memory(0, gibibytes * GIB)
    };
    Topology {
        memory: memory_gibibytes * GIB,
        memory_limit: 16 * GIB,
        host_bridges: vec![bridge(vec![Device::Memory(device)])],
        windows: vec![window(gibibytes * GIB, &[0])],
        ..machine(name, description)
    }
}

fn bridge(ports: Vec<Device>) -> HostBridge {
    HostBridge {
        decoders_for_one_port: false,
        ports,
    }
}

fn volatile(first: u64, count: u64, bytes: u64) -> Vec<Device> {
    (first..first + count)
        .map(|number| Device::Memory(memory(number, bytes)))
        .collect()
}

fn memory(number: u64, bytes: u64) -> MemoryDevice {
    MemoryDevice {
        serial: FIRST_SERIAL + number,
        volatile: Some(bytes),
        persistent: None,
        dynamic: None,
        sparse: false,
        file: None,
    }
}

fn dynamic(number: u64, bytes: u64, regions: u8) -> MemoryDevice {
    MemoryDevice {
        volatile: None,
        dynamic: Some(DynamicCapacity { bytes, regions }),
        ..memory(number, 0)
    }
}

fn window(size: u64, targets: &[usize]) -> Window {
    Window {
        size,
        targets: targets.to_vec(),
        granularity: None,
    }
}
