// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents go back to the fabric because the host's user wants it so.
//!
//! This is no transaction: what went back is the fabric's, and only the fabric can give it again. So each extent goes if it
//! can, and those that stay are named.

use std::time::Duration;

use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::extent::Extent;
use cxl_sysfs::tree::optional;
use region_policy::extent::Tag;
use region_policy::matrix::PartitionMode;

use crate::interrupt::Interrupt;
use crate::plan::destroy;
use crate::problem::Problem;
use crate::problem::Refusal;

/// How long the kernel may be silent before an extent is taken for one that stays. It tries for half a minute to free memory
/// in use, and says of each attempt how it went.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which extents of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those with this tag.
    Tagged(Tag),
    /// The one with this number, and those that belong to it.
    Numbered(u32),
}

/// Whether this machine has dynamic capacity, as far as the kernel shows it.
///
/// # Errors
/// When it shows none.
pub fn there_can_be_any(snapshot: &Snapshot) -> Result<(), Refusal> {
    if snapshot
        .memdevs
        .iter()
        .any(|memdev| memdev.dynamic_size > 0)
    {
        return Ok(());
    }
    Err(Refusal::new(
        "no memdev here has dynamic capacity",
        "the kernel knows none of it: the module cxl_regions shows what memdevs have",
        "load it: modprobe cxl_regions; cxlr list shows the memdevs",
    ))
}

/// The extents of a region.
///
/// # Errors
/// When there is no such region, or it is not over dynamic capacity.
pub fn extents_of<'a>(snapshot: &'a Snapshot, name: &str) -> Result<Vec<&'a Extent>, Refusal> {
    let region = destroy::find(snapshot, name)?;
    let extents: Vec<&Extent> = snapshot.extents_of(name).collect();
    if extents.is_empty() && snapshot.partition_mode(region) != Some(PartitionMode::DynamicCapacity)
    {
        return Err(Refusal::new(
            format!("{name} is not over dynamic capacity"),
            "only such a region has extents, which the fabric gives and takes",
            "create one: cxlr create-region -t dc",
        )
        .at(format!("{}/{name}", cxl_sysfs::device::CXL_DEVICES)));
    }
    Ok(extents)
}

/// The names of the extents that go, in order.
///
/// # Errors
/// When the region has none of those that are asked for.
pub fn choose(snapshot: &Snapshot, region: &str, which: Which) -> Result<Vec<String>, Refusal> {
    let extents = extents_of(snapshot, region)?;
    let named = |number: u32| extents.iter().find(|extent| extent.number == number);
    let goes = |extent: &&&Extent| match which {
        Which::All => true,
        Which::Tagged(tag) => extent.tag == Some(tag),
        Which::Numbered(number) => {
            let set = named(number).and_then(|extent| extent.tag);
            extent.number == number || set.is_some() && extent.tag == set
        }
    };
    let chosen: Vec<String> = extents
        .iter()
        .filter(goes)
        .map(|extent| extent.name.clone())
        .collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    Err(Refusal::new(
        match which {
            Which::All => format!("{region} has no extents"),
            Which::Tagged(tag) => format!("{region} has no extent with the tag {tag}"),
            Which::Numbered(number) => format!("{region} has no extent with the number {number}"),
        },
        "only what the host has can be given back",
        format!("look at what it has: cxlr extents {region}"),
    ))
}

/// Asks for each of these extents to be given back, and waits until all have gone or are known to stay.
///
/// # Errors
/// [`Problem::Kept`] with those that stay, or of which nobody can tell; anything else before the first is asked for.
pub fn run(tree: &dyn Tree, interrupt: &Interrupt, names: &[String]) -> Result<(), Problem> {
    // Before the first write, so that nothing that it brings about is missed.
    let mut events = tree.events()?;
    let mut waiting = Vec::new();
    let mut kept: Vec<(String, String)> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let folder = Extent::folder(name);
        tracing::info!("give back {name}");
        match tree.write(&folder.join("release"), "1") {
            Ok(()) => waiting.push(name),
            // One of its set was asked for before, and it is gone.
            Err(error) if error.is_missing() => {}
            // Who may not ask for the first may ask for none.
            Err(error) if error.is_forbidden() && number == 0 => return Err(error.into()),
            Err(error) => kept.push((name.clone(), error.to_string())),
        }
    }
    loop {
        let mut still = Vec::new();
        for name in waiting {
            match optional(Extent::read(tree, name)).map(Option::flatten) {
                Ok(None) => {}
                Ok(Some(extent)) if extent.is_busy() => kept.push((name.clone(), extent.state)),
                Ok(Some(extent)) => still.push((name, extent.state)),
                Err(error) => kept.push((name.clone(), error.to_string())),
            }
        }
        if still.is_empty() {
            break;
        }
        let patient = events.wait(PATIENCE);
        if interrupt.is_asked() || !matches!(patient, Ok(true)) {
            let why = patient.err().map(|error| format!(": {error}"));
            let why = why.unwrap_or_default();
            kept.extend(
                still
                    .into_iter()
                    .map(|(name, state)| (name.clone(), format!("{state}{why}"))),
            );
            break;
        }
        waiting = still.into_iter().map(|(name, _)| name).collect();
    }
    if kept.is_empty() {
        return Ok(());
    }
    Err(Problem::Kept {
        others: names.len() > kept.len(),
        kept,
    })
}
