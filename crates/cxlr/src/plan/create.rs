// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan for a new region.

use cxl_sysfs::Snapshot;
use cxl_sysfs::decoder;
use cxl_sysfs::decoder::EndpointDecoder;
use cxl_sysfs::decoder::RootDecoder;
use cxl_sysfs::memdev::DYNAMIC_PARTITION;
use cxl_sysfs::memdev::Memdev;
use region_policy::matrix::PartitionMode;

use super::Action;
use super::Step;
use super::attach::Wanted;
use super::attach::Way;
use super::interleave;
use super::memdevs;
use super::space;
use super::write;
use crate::problem::Refusal;
use crate::size::Size;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The memdevs, as the user names them.
    pub memdevs: Vec<String>,
    /// The partition that they give from.
    pub mode: PartitionMode,
    /// The root decoder, if not any.
    pub decoder: Option<String>,
    /// How many memdevs, as a check.
    pub ways: Option<u32>,
    /// After how many bytes the next memdev follows, if not as the root decoder has it.
    pub granularity: Option<u64>,
    /// The size, if not all that there is.
    pub size: Option<Size>,
    /// The identity of a persistent region.
    pub uuid: Option<String>,
    /// What to do with it then.
    pub wanted: Wanted,
}

/// What will be written, and what will be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The region's name, as the kernel announces it.
    pub region: String,
    /// The way to its memory on this machine.
    pub way: Way,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One window that would do, and what would be there.
struct Candidate<'a> {
    decoder: &'a RootDecoder,
    targets: Vec<(&'a Memdev, &'a EndpointDecoder)>,
    granularity: u64,
    size: u64,
}

/// Plans a region.
///
/// # Errors
/// When there is no way: which rule stands against it, and what to do.
pub fn plan(snapshot: &Snapshot, request: &Request) -> Result<Plan, Refusal> {
    let memdevs = memdevs::find(snapshot, &request.memdevs)?;
    if let Some(ways) = request.ways.filter(|ways| *ways as usize != memdevs.len()) {
        return Err(Refusal::new(
            format!(
                "{ways} ways were asked for, and {} memdevs named",
                memdevs.len()
            ),
            "a region has one memdev per way",
            "name as many memdevs as ways, or leave out --ways",
        ));
    }
    if request.mode == PartitionMode::DynamicCapacity {
        check_dynamic(snapshot, &memdevs)?;
    }
    let way = Way::choose(snapshot, request.wanted, request.mode)?;
    let candidate = choose(snapshot, request, &memdevs)?;
    let region = next_region(candidate.decoder, request.mode)?.to_owned();
    let mut steps = create(&candidate, &region, request);
    steps.extend(way.steps(snapshot, &region, request.mode, false));
    Ok(Plan { region, way, steps })
}

/// What is different over dynamic capacity.
fn check_dynamic(snapshot: &Snapshot, memdevs: &[&Memdev]) -> Result<(), Refusal> {
    let mut decoders = snapshot.root_decoders.iter();
    if decoders.all(|decoder| decoder.next_dc_region.is_none()) {
        return Err(Refusal::new(
            "no driver here makes regions over dynamic capacity",
            "the kernel knows none of it: the module cxl_regions brings it",
            "load it: modprobe cxl_regions",
        )
        .at("/sys/bus/cxl/devices/decoderX.Y/create_dc_region"));
    }
    if memdevs.len() > 1 {
        return Err(Refusal::new(
            format!("{} memdevs were named", memdevs.len()),
            "a region over dynamic capacity has one memdev: what each gives and takes back is its own affair",
            "create a region for each memdev",
        ));
    }
    Ok(())
}

/// The window that was asked for, or the one with most room.
fn choose<'a>(
    snapshot: &'a Snapshot,
    request: &Request,
    memdevs: &[&'a Memdev],
) -> Result<Candidate<'a>, Refusal> {
    if let Some(name) = &request.decoder {
        let decoder = snapshot.root_decoder(name).ok_or_else(|| {
            let known: Vec<&str> = snapshot
                .root_decoders
                .iter()
                .map(|decoder| decoder.name.as_str())
                .collect();
            Refusal::new(
                format!("there is no root decoder {name}"),
                "regions are created in the window of a root decoder",
                format!("choose one of: {}", known.join(", ")),
            )
        })?;
        return has_room(
            snapshot,
            request,
            suits(snapshot, request, memdevs, decoder)?,
        );
    }
    let mut best: Option<Candidate<'a>> = None;
    let mut unsuited = Vec::new();
    let mut full = Vec::new();
    for decoder in &snapshot.root_decoders {
        match suits(snapshot, request, memdevs, decoder) {
            Err(refusal) => unsuited.push((decoder.name.as_str(), refusal)),
            Ok(suited) => match has_room(snapshot, request, suited) {
                Err(refusal) => full.push((decoder.name.as_str(), refusal)),
                Ok(candidate) if best.as_ref().is_none_or(|best| candidate.size > best.size) => {
                    best = Some(candidate);
                }
                Ok(_) => {}
            },
        }
    }
    // What stands against a window that suits is what the user can change.
    best.ok_or_else(|| none_fits(if full.is_empty() { unsuited } else { full }))
}

/// One refusal for all windows; where there is only one window, or one reason, that is the reason.
fn none_fits(mut refusals: Vec<(&str, Refusal)>) -> Refusal {
    let same = refusals.windows(2).all(|pair| pair[0].1 == pair[1].1);
    match refusals.pop() {
        None => Refusal::new(
            "this machine has no root decoder",
            "regions are created in the windows that the platform's firmware describes (CEDT)",
            "look whether cxl_acpi is loaded, and at the kernel's log",
        ),
        Some((_, refusal)) if same => refusal,
        Some(last) => {
            refusals.push(last);
            let reason = |(name, refusal): &(&str, Refusal)| {
                format!("{name}: {}; {}", refusal.what, refusal.rule)
            };
            let reasons: Vec<String> = refusals.iter().map(reason).collect();
            Refusal::new(
                "no root decoder takes this region",
                reasons.join("\n          "),
                "choose one with -d to see what would help there",
            )
        }
    }
}

/// A window that the memdevs fit, whatever room it has.
struct Suited<'a> {
    decoder: &'a RootDecoder,
    ordered: Vec<&'a Memdev>,
    granularity: u64,
}

fn suits<'a>(
    snapshot: &'a Snapshot,
    request: &Request,
    memdevs: &[&'a Memdev],
    decoder: &'a RootDecoder,
) -> Result<Suited<'a>, Refusal> {
    next_region(decoder, request.mode)?;
    let granularity = interleave::granularity(decoder, request.granularity)?;
    let ordered = interleave::order(snapshot, decoder, memdevs, granularity)?;
    Ok(Suited {
        decoder,
        ordered,
        granularity,
    })
}

fn has_room<'a>(
    snapshot: &'a Snapshot,
    request: &Request,
    suited: Suited<'a>,
) -> Result<Candidate<'a>, Refusal> {
    let Suited {
        decoder,
        ordered,
        granularity,
    } = suited;
    let size = space::size(snapshot, decoder, &ordered, request.mode, request.size)?;
    let address = space::placement(snapshot, decoder, size).unwrap_or(u64::MAX);
    space::check_ports(snapshot, &ordered, address)?;
    let with_decoder = |memdev: &'a Memdev| Ok((memdev, space::next_decoder(snapshot, memdev)?));
    let targets = ordered
        .into_iter()
        .map(with_decoder)
        .collect::<Result<_, Refusal>>()?;
    Ok(Candidate {
        decoder,
        targets,
        granularity,
        size,
    })
}

/// The name of the next region, which is also the proof that the window takes such regions.
fn next_region(decoder: &RootDecoder, mode: PartitionMode) -> Result<&str, Refusal> {
    let ram = ("cap_ram", decoder.cap_ram);
    let ((attribute, capable), next) = match mode {
        PartitionMode::Ram => (ram, &decoder.next_ram_region),
        PartitionMode::Pmem => (("cap_pmem", decoder.cap_pmem), &decoder.next_pmem_region),
        PartitionMode::DynamicCapacity => (ram, &decoder.next_dc_region),
    };
    next.as_deref().filter(|_| capable).ok_or_else(|| {
        Refusal::new(
            format!("{} takes no {mode} regions", decoder.name),
            "the platform's firmware says for each window which memory may be mapped there",
            "choose another root decoder, or leave out -d",
        )
        .at(format!("/sys/bus/cxl/devices/{}/{attribute}", decoder.name))
    })
}

/// The steps up to and including the commit, in the order that the kernel wants.
fn create(candidate: &Candidate<'_>, region: &str, request: &Request) -> Vec<Step> {
    let mode = request.mode;
    let root = candidate.decoder.name.as_str();
    let ways = candidate.targets.len();
    let mut steps = vec![
        Step::new(
            format!("create {region} in {root}"),
            write(root, &format!("create_{mode}_region"), region),
        )
        .undone_by(vec![write(root, "delete_region", region)]),
        Step::new(
            format!("set the granularity of {region}"),
            write(
                region,
                "interleave_granularity",
                candidate.granularity.to_string(),
            ),
        ),
        Step::new(
            format!("set the ways of {region}"),
            write(region, "interleave_ways", ways.to_string()),
        ),
    ];
    if let Some(uuid) = &request.uuid {
        steps.push(Step::new(
            format!("set the uuid of {region}"),
            // The kernel wants exactly 37 characters here: the line must have its end.
            write(region, "uuid", format!("{uuid}\n")),
        ));
    }
    steps.push(Step::new(
        format!("give {region} {} of addresses", Size(candidate.size)),
        write(region, "size", format!("{:#x}", candidate.size)),
    ));
    let share = candidate.size / ways as u64;
    for (position, (memdev, decoder)) in candidate.targets.iter().enumerate() {
        steps.extend(target(region, position, memdev, decoder, mode, share));
    }
    steps.push(
        Step::new(format!("commit {region}"), write(region, "commit", "1")).undone_by(vec![
            Action::Absent(region.to_owned()),
            write(region, "commit", "0"),
        ]),
    );
    steps
}

/// One memdev gives its share and takes its position.
fn target(
    region: &str,
    position: usize,
    memdev: &Memdev,
    decoder: &EndpointDecoder,
    mode: PartitionMode,
    share: u64,
) -> Vec<Step> {
    let name = decoder.name.as_str();
    let word = decoder::mode(mode);
    let mut steps = Vec::new();
    if decoder.mode.as_deref() != Some(word) {
        // A decoder that was never used cannot be told so again: its mode has no meaning while it holds no capacity.
        let back = decoder
            .mode
            .iter()
            .map(|before| draw_from(memdev, name, before))
            .collect();
        let what = format!(
            "let {name} draw from the {mode} partition of {}",
            memdev.name
        );
        steps.push(Step::new(what, draw_from(memdev, name, word)).undone_by(back));
    }
    steps.push(
        Step::new(
            format!("give {} of {} to {name}", Size(share), memdev.name),
            write(name, "dpa_size", format!("{share:#x}")),
        )
        .undone_by(vec![write(name, "dpa_size", "0")]),
    );
    let attribute = format!("target{position}");
    steps.push(
        Step::new(
            format!("put {} at position {position} of {region}", memdev.name),
            write(region, &attribute, name),
        )
        // When the last target does not fit, the kernel refuses and keeps it all the same.
        .undone_by(vec![detach(region, &attribute)])
        .even_if_it_fails(),
    );
    steps
}

/// Chooses the partition of an endpoint decoder. The core has no word for dynamic capacity: the memdev takes the decoder.
fn draw_from(memdev: &Memdev, decoder: &str, word: &str) -> Action {
    if word == DYNAMIC_PARTITION {
        write(
            &memdev.name,
            &format!("{DYNAMIC_PARTITION}/decoder"),
            decoder,
        )
    } else {
        write(decoder, "mode", word)
    }
}

/// Takes a target away; nothing where there is none.
#[must_use]
pub fn detach(region: &str, attribute: &str) -> Action {
    write(region, attribute, "\n")
}
