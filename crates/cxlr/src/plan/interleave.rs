// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of the targets.
//!
//! Addresses alternate between the host bridges of the window first, then between the downstream ports of each host
//! bridge, then between those of the switches below. So position *i* of a region belongs to the host bridge at place
//! *i mod ways* of the window's target list, and the positions that are left to a port alternate among its downstream
//! ports. Any order that does this works, and no other: the kernel refuses with ENXIO and does not say why.

use cxl_sysfs::Snapshot;
use cxl_sysfs::decoder::RootDecoder;
use cxl_sysfs::memdev::Memdev;

use crate::problem::Refusal;

/// The ways that decoders know.
const WAYS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// The widest that a port alternates.
const WIDEST_PORT: usize = 8;
/// The coarsest granularity in bytes that decoders know.
const COARSEST: u64 = 16384;
/// The finest granularity in bytes that decoders know.
const FINEST: u64 = 256;

/// A memdev and how addresses reach it: the downstream port to take at each port, from the root.
struct Member<'a> {
    memdev: &'a Memdev,
    way: Vec<(&'a str, &'a str)>,
}

/// The granularity of a region below `decoder`: what was asked for, or the decoder's own.
///
/// # Errors
/// When the decoder does not accept it.
pub fn granularity(decoder: &RootDecoder, asked: Option<u64>) -> Result<u64, Refusal> {
    let own = u64::from(decoder.mapping.interleave_granularity);
    let Some(asked) = asked else { return Ok(own) };
    if !asked.is_power_of_two() || !(FINEST..=COARSEST).contains(&asked) {
        return Err(Refusal::new(
            format!("{asked} is no interleave granularity"),
            format!("decoders know the powers of two from {FINEST} to {COARSEST}"),
            "choose one of these, or leave it out",
        ));
    }
    if decoder.mapping.interleave_ways > 1 && asked != own {
        return Err(Refusal::new(
            format!("{} does not take a granularity of {asked}", decoder.name),
            format!(
                "a window that alternates between host bridges fixes the granularity of its regions, here {own}"
            ),
            "leave out --granularity",
        ));
    }
    Ok(asked)
}

/// Orders the memdevs so that the topology below `decoder` accepts them. An acceptable order is kept as it is.
///
/// # Errors
/// When there is no such order: which rule which memdev breaks.
pub fn order<'a>(
    snapshot: &'a Snapshot,
    decoder: &RootDecoder,
    memdevs: &[&'a Memdev],
    granularity: u64,
) -> Result<Vec<&'a Memdev>, Refusal> {
    let ways = memdevs.len();
    let root_ways = decoder.target_list.len();
    if !WAYS.contains(&ways) {
        return Err(Refusal::new(
            format!("a region cannot have {ways} ways"),
            "decoders know 1, 2, 3, 4, 6, 8, 12 and 16 ways, and a region has one memdev per way",
            "name one of these numbers of memdevs",
        ));
    }
    if root_ways == 0 || !ways.is_multiple_of(root_ways) || !(ways / root_ways).is_power_of_two() {
        return Err(Refusal::new(
            format!("{} takes no region of {ways} ways", decoder.name),
            format!(
                "its ways are a power of two times the number of its host bridges, which is {root_ways}"
            ),
            "name another number of memdevs, or choose another root decoder with -d",
        ));
    }
    let bridges = bridges(snapshot, decoder)?;
    let mut below: Vec<Vec<Member<'a>>> = bridges.iter().map(|_| Vec::new()).collect();
    for memdev in memdevs {
        let member = member(snapshot, memdev)?;
        let bridge = member.way.first().map_or("", |(_, dport)| *dport);
        let Some(place) = bridges.iter().position(|name| *name == bridge) else {
            return Err(Refusal::new(
                format!("{} cannot be in a region of {}", memdev.name, decoder.name),
                format!(
                    "it is below the host bridge {bridge}, and this window reaches only {}",
                    bridges.join(", ")
                ),
                "choose another root decoder with -d, or leave it out and let one be chosen",
            ));
        };
        below[place].push(member);
    }
    let share = ways / root_ways;
    for (bridge, members) in bridges.iter().zip(&below) {
        if members.len() != share {
            return Err(Refusal::new(
                format!(
                    "{} of {ways} memdevs are below the host bridge {bridge}",
                    members.len()
                ),
                format!(
                    "{} alternates between its host bridges, so each has the same number of memdevs, here {share}",
                    decoder.name
                ),
                format!("name {share} memdevs below each of {}", bridges.join(", ")),
            ));
        }
    }
    // Ports below count in powers of two, even under a window of three host bridges.
    let root_factor = if root_ways.is_power_of_two() {
        root_ways
    } else {
        root_ways / 3
    };
    let mut ordered = Vec::new();
    for members in below {
        ordered.push(arrange(members, 1, granularity * root_factor as u64)?);
    }
    Ok(alternate(ordered))
}

/// The host bridges of a window in interleave order, by the name of the downstream port's device.
fn bridges<'a>(snapshot: &'a Snapshot, decoder: &RootDecoder) -> Result<Vec<&'a str>, Refusal> {
    let root = snapshot.port(&decoder.port);
    let name = |id: &u32| {
        root.and_then(|root| root.dports.get(id))
            .map(String::as_str)
    };
    decoder
        .target_list
        .iter()
        .map(name)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            Refusal::new(
                format!("{} names a host bridge that is not there", decoder.name),
                "every number in target_list is a downstream port of the root",
                "look at the kernel's log: cxl_acpi did not find all host bridges",
            )
            .at(format!("/sys/bus/cxl/devices/{}/target_list", decoder.name))
        })
}

fn member<'a>(snapshot: &'a Snapshot, memdev: &'a Memdev) -> Result<Member<'a>, Refusal> {
    let lost = || {
        Refusal::new(
            format!("{} has no way to the root", memdev.name),
            "every port above a memdev is known with its downstream port",
            "look at the kernel's log: a port above the memdev was not found",
        )
    };
    let endpoint = snapshot.endpoint_of(&memdev.name).ok_or_else(lost)?;
    let mut way = Vec::new();
    for port in snapshot.path_to_root(endpoint) {
        if let (Some(parent), Some(dport)) = (port.parent.as_deref(), port.parent_dport.as_deref())
        {
            way.push((parent, dport));
        }
    }
    way.reverse();
    Ok(Member { memdev, way })
}

/// Orders the memdevs below one port, which is at `depth` on their ways, so that they alternate among its downstream
/// ports. Those are taken in the order in which they are named, which keeps an order that is right already.
fn arrange<'a>(
    members: Vec<Member<'a>>,
    depth: usize,
    granularity: u64,
) -> Result<Vec<&'a Memdev>, Refusal> {
    let Some((port, _)) = members.first().and_then(|member| member.way.get(depth)) else {
        return Ok(members.into_iter().map(|member| member.memdev).collect());
    };
    let port = (*port).to_owned();
    if granularity > COARSEST {
        return Err(Refusal::new(
            format!("{port} would have to alternate every {granularity} bytes"),
            format!(
                "each level of the topology is coarser than the one above, and decoders know at most {COARSEST}"
            ),
            "choose a finer --granularity, or a window that does not alternate between host bridges",
        ));
    }
    let mut below: Vec<(&str, Vec<Member<'a>>)> = Vec::new();
    for member in members {
        let dport = member.way.get(depth).map_or("", |(_, dport)| *dport);
        match below.iter_mut().find(|(name, _)| *name == dport) {
            Some((_, group)) => group.push(member),
            None => below.push((dport, vec![member])),
        }
    }
    let width = below.len();
    if !width.is_power_of_two() || width > WIDEST_PORT {
        return Err(Refusal::new(
            format!("{port} would have to alternate between {width} downstream ports"),
            format!("host bridges and switches alternate between 1, 2, 4 or {WIDEST_PORT}"),
            format!("name memdevs below 1, 2, 4 or {WIDEST_PORT} downstream ports of {port}"),
        ));
    }
    let share = below.first().map_or(0, |(_, group)| group.len());
    if let Some((dport, group)) = below.iter().find(|(_, group)| group.len() != share) {
        let first = below.first().map_or("", |(dport, _)| *dport);
        return Err(Refusal::new(
            format!(
                "{port} has {share} memdevs below {first} and {} below {dport}",
                group.len()
            ),
            "a port alternates between its downstream ports, so each has the same number of memdevs",
            format!("leave out {} or name more below {first}", names(group)),
        ));
    }
    let mut ordered = Vec::new();
    for (_, group) in below {
        ordered.push(arrange(group, depth + 1, granularity * width as u64)?);
    }
    Ok(alternate(ordered))
}

fn names(members: &[Member<'_>]) -> String {
    members
        .iter()
        .map(|member| member.memdev.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Takes one of each list in turn. The lists have the same length.
fn alternate<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut turns: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut result = Vec::new();
    loop {
        let round: Vec<T> = turns.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            return result;
        }
        result.extend(round);
    }
}
