// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room for a region: a range of addresses in the window, capacity on the memdevs, and a decoder on every port between.

use cxl_sysfs::Snapshot;
use cxl_sysfs::decoder;
use cxl_sysfs::decoder::EndpointDecoder;
use cxl_sysfs::decoder::RootDecoder;
use cxl_sysfs::memdev::Memdev;
use cxl_sysfs::port::Port;
use cxl_sysfs::port::PortKind;
use region_policy::matrix::PartitionMode;

use crate::problem::Refusal;
use crate::size::Size;

/// What each memdev gives is a multiple of this, and regions start at multiples of it.
pub const ALIGNMENT: u64 = 256 << 20;

/// The next decoder of a memdev. Decoders are used in order, so there is only one that can be next.
///
/// # Errors
/// When all are in use, or when one in the middle was given back out of order.
pub fn next_decoder<'a>(
    snapshot: &'a Snapshot,
    memdev: &Memdev,
) -> Result<&'a EndpointDecoder, Refusal> {
    let endpoint = snapshot
        .endpoint_of(&memdev.name)
        .map_or("", |port| port.name.as_str());
    let used = |decoder: &&EndpointDecoder| decoder.dpa_size > 0 || decoder.region.is_some();
    let decoders: Vec<&EndpointDecoder> = snapshot.decoders_of(endpoint).collect();
    let Some(next) = decoders.iter().find(|decoder| !used(decoder)) else {
        return Err(Refusal::new(
            format!("{} has no free decoder", memdev.name),
            format!(
                "each region takes one decoder of each memdev, and this one has {}",
                decoders.len()
            ),
            format!("destroy a region on {}", memdev.name),
        )
        .at(format!("/sys/bus/cxl/devices/{endpoint}")));
    };
    let later = decoders.iter().find(|decoder| {
        used(decoder) && decoder::instance(&decoder.name) > decoder::instance(&next.name)
    });
    match later {
        Some(later) => Err(Refusal::new(
            format!("{} of {} was given back before {}", next.name, memdev.name, later.name),
            "decoders are used in order, so a gap blocks the memdev until all later ones are given back",
            match &later.region {
                Some(region) => format!("destroy {region} and create it again"),
                None => format!("give back {}: echo 0 > /sys/bus/cxl/devices/{}/dpa_size", later.name, later.name),
            },
        )
        .at(format!("/sys/bus/cxl/devices/{}", next.name))),
        None => Ok(next),
    }
}

/// The most that a region of these memdevs can have in this window, in bytes.
#[must_use]
pub fn largest(
    snapshot: &Snapshot,
    decoder: &RootDecoder,
    memdevs: &[&Memdev],
    mode: PartitionMode,
) -> u64 {
    let ways = memdevs.len() as u64;
    let share = memdevs
        .iter()
        .map(|memdev| snapshot.free_capacity(memdev, mode))
        .min()
        .unwrap_or(0);
    let capacity = share / ALIGNMENT * ALIGNMENT * ways;
    let unit = ALIGNMENT * ways.max(1);
    let window = snapshot
        .free_ranges(decoder)
        .iter()
        .map(usable)
        .max()
        .unwrap_or(0);
    capacity.min(window / unit * unit)
}

/// Bytes of a free range from its first aligned address on.
fn usable(range: &std::ops::Range<u64>) -> u64 {
    range
        .end
        .saturating_sub(range.start.next_multiple_of(ALIGNMENT))
}

/// The size of the region: what was asked for, or all that there is.
///
/// # Errors
/// When it is not a multiple of what decoders know, when a memdev has less, or when the window has less.
pub fn size(
    snapshot: &Snapshot,
    decoder: &RootDecoder,
    memdevs: &[&Memdev],
    mode: PartitionMode,
    asked: Option<Size>,
) -> Result<u64, Refusal> {
    let ways = memdevs.len() as u64;
    let unit = ALIGNMENT * ways;
    if decoder.mapping.start.is_none() {
        return Err(Refusal::new(
            format!("the address of {} cannot be read", decoder.name),
            "only root may see physical addresses",
            "run it as root",
        ));
    }
    let share = match asked {
        Some(Size(size)) if !size.is_multiple_of(unit) => {
            let below = size / unit * unit;
            let above = Size(size.next_multiple_of(unit));
            return Err(Refusal::new(
                format!("{} cannot be shared by {ways} memdevs", Size(size)),
                format!(
                    "each memdev gives a multiple of {}, so the size is a multiple of {}",
                    Size(ALIGNMENT),
                    Size(unit)
                ),
                match below {
                    0 => format!("choose {above}"),
                    below => format!("choose {} or {above}", Size(below)),
                },
            ));
        }
        Some(Size(size)) => size / ways,
        None => ALIGNMENT,
    };
    for memdev in memdevs {
        let free = snapshot.free_capacity(memdev, mode);
        if free < share {
            return Err(no_capacity(snapshot, memdev, mode, free, share));
        }
    }
    let largest = largest(snapshot, decoder, memdevs, mode);
    let size = asked.map_or(largest, |size| size.0);
    if size == 0 || size > largest {
        let free = snapshot
            .free_ranges(decoder)
            .iter()
            .map(usable)
            .max()
            .unwrap_or(0);
        return Err(Refusal::new(
            format!("{} has no room for a region of {}", decoder.name, Size(size.max(unit))),
            format!("a region is one range of addresses, and the largest free one in this window has {}", Size(free)),
            "choose a smaller size, another root decoder, or destroy a region in this window",
        )
        .at(format!("/sys/bus/cxl/devices/{}", decoder.name)));
    }
    Ok(size)
}

fn no_capacity(
    snapshot: &Snapshot,
    memdev: &Memdev,
    mode: PartitionMode,
    free: u64,
    share: u64,
) -> Refusal {
    let capacity = memdev.capacity(mode);
    let place = format!(
        "/sys/bus/cxl/devices/{}/{}/size",
        memdev.name,
        decoder::mode(mode)
    );
    if capacity == 0 {
        return Refusal::new(
            format!("{} has no {mode} capacity", memdev.name),
            format!("each memdev of a {mode} region gives a share of its {mode} partition"),
            "choose other memdevs or another --type (cxlr list shows what each has)",
        )
        .at(place);
    }
    let endpoint = snapshot
        .endpoint_of(&memdev.name)
        .map_or("", |port| port.name.as_str());
    let orphan = snapshot
        .decoders_of(endpoint)
        .find(|decoder| decoder.dpa_size > 0 && decoder.region.is_none());
    let taken = capacity.saturating_sub(free);
    let rule = if taken == 0 {
        format!("that is all the {mode} capacity that it has")
    } else {
        format!(
            "of its {}, {} are given to decoders already",
            Size(capacity),
            Size(taken)
        )
    };
    let remedy = match orphan {
        Some(orphan) => format!(
            "{} holds {} for no region; give it back: echo 0 > /sys/bus/cxl/devices/{}/dpa_size",
            orphan.name,
            Size(orphan.dpa_size),
            orphan.name
        ),
        None if taken == 0 => "choose a smaller size, or name more memdevs".to_owned(),
        None => format!(
            "choose a smaller size, or destroy a region on {}",
            memdev.name
        ),
    };
    Refusal::new(
        format!(
            "{} has {} of free {mode} capacity, and the region needs {} of it",
            memdev.name,
            Size(free),
            Size(share)
        ),
        rule,
        remedy,
    )
    .at(place)
}

/// Where the kernel will put a region: it takes the lowest free range that is large enough.
#[must_use]
pub fn placement(snapshot: &Snapshot, decoder: &RootDecoder, size: u64) -> Option<u64> {
    let fits = |range: &std::ops::Range<u64>| usable(range) >= size;
    snapshot
        .free_ranges(decoder)
        .into_iter()
        .find(fits)
        .map(|range| range.start.next_multiple_of(ALIGNMENT))
}

/// Checks that every host bridge and switch between the memdevs and the root can take the region.
///
/// # Errors
/// When a port has no free decoder, has a gap among its decoders, or carries a region at a higher address.
pub fn check_ports(snapshot: &Snapshot, memdevs: &[&Memdev], address: u64) -> Result<(), Refusal> {
    let mut ports: Vec<&Port> = Vec::new();
    for endpoint in memdevs
        .iter()
        .filter_map(|memdev| snapshot.endpoint_of(&memdev.name))
    {
        for port in snapshot.path_to_root(endpoint) {
            if port.kind == PortKind::Switch && !ports.iter().any(|other| other.name == port.name) {
                ports.push(port);
            }
        }
    }
    ports
        .into_iter()
        .try_for_each(|port| check_port(snapshot, port, address))
}

fn check_port(snapshot: &Snapshot, port: &Port, address: u64) -> Result<(), Refusal> {
    let decoders: Vec<_> = snapshot.switch_decoders_of(&port.name).collect();
    let carried: Vec<&str> = decoders
        .iter()
        .filter_map(|decoder| decoder.region.as_deref())
        .collect();
    let place = format!("/sys/bus/cxl/devices/{}", port.name);
    let next = decoders
        .iter()
        .find(|decoder| decoder::instance(&decoder.name) == Some(port.decoders_committed));
    if next.is_none_or(|next| next.region.is_some()) {
        return Err(Refusal::new(
            format!(
                "{} ({}) has no free decoder",
                port.name,
                port.host.as_deref().unwrap_or("unknown device")
            ),
            format!(
                "each region takes one decoder of every port on the way, and this one has {}",
                decoders.len()
            ),
            if let [only] = carried[..] {
                format!("destroy {only}")
            } else {
                format!("destroy one of {}", carried.join(", "))
            },
        )
        .at(place));
    }
    let before_next = |name: &str| {
        decoder::instance(name).is_some_and(|instance| instance < port.decoders_committed)
    };
    if let Some(gap) = decoders
        .iter()
        .find(|decoder| before_next(&decoder.name) && decoder.mapping.size == 0)
    {
        return Err(Refusal::new(
            format!("{} of {} was given back before the decoders behind it", gap.name, port.name),
            "decoders of a port are used in order, so a gap blocks new regions until all behind it are given back",
            format!("destroy {} and create what you need again", carried.join(", ")),
        )
        .at(place));
    }
    let higher = carried
        .iter()
        .filter_map(|name| snapshot.region(name))
        .find(|region| region.resource >= Some(address));
    if let Some(higher) = higher {
        return Err(Refusal::new(
            format!("the region would lie at {address:#x}, below {} on {}", higher.name, port.name),
            "decoders of a port are committed in the order of their addresses, and the kernel takes the lowest free range",
            format!("destroy {} and create it again after this one", higher.name),
        )
        .at(place));
    }
    Ok(())
}
