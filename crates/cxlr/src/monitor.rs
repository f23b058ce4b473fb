// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents as they come, change and go, and offers as they are refused.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use cxl_sysfs::Tree;
use cxl_sysfs::extent;
use cxl_sysfs::extent::Extent;
use cxl_sysfs::memdev;
use cxl_sysfs::memdev::Refusals;
use serde_json::json;

use crate::list;
use crate::problem::Problem;

/// As long as one can say.
const FOR_EVER: Duration = Duration::from_hours(24);

/// What happened to an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was there when we began.
    Present,
    /// It came.
    Added,
    /// Its state is another one.
    Changed,
    /// It went.
    Removed,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What is different between two looks, in the order of names.
#[must_use]
pub fn changes<'a>(
    before: &'a BTreeMap<String, Extent>,
    now: &'a BTreeMap<String, Extent>,
) -> Vec<(Change, &'a Extent)> {
    let gone = before
        .iter()
        .filter(|(name, _)| !now.contains_key(*name))
        .map(|(_, extent)| (Change::Removed, extent));
    let others = now
        .iter()
        .filter_map(|(name, extent)| match before.get(name) {
            None => Some((Change::Added, extent)),
            Some(before) if before != extent => Some((Change::Changed, extent)),
            Some(_) => None,
        });
    gone.chain(others).collect()
}

/// Of which memdevs, between two looks, more offers were refused: with how many there were, and why the latest was.
#[must_use]
pub fn refused<'a>(
    before: &BTreeMap<String, Refusals>,
    now: &'a BTreeMap<String, Refusals>,
) -> Vec<(&'a str, u64, &'a str)> {
    now.iter()
        .filter_map(|(memdev, now)| {
            let before = before.get(memdev).map_or(0, |before| before.count);
            // A memdev that was bound anew counts from the beginning.
            let offers = now.count.checked_sub(before).unwrap_or(now.count);
            let why = now.latest.as_deref().unwrap_or_default();
            (offers > 0).then_some((memdev.as_str(), offers, why))
        })
        .collect()
}

/// What there is at one moment.
struct Look {
    extents: BTreeMap<String, Extent>,
    refusals: BTreeMap<String, Refusals>,
}

impl Look {
    fn at(tree: &dyn Tree) -> Result<Self, Problem> {
        let extents = extent::all(tree)?.into_iter();
        Ok(Self {
            extents: extents
                .map(|extent| (extent.name.clone(), extent))
                .collect(),
            refusals: memdev::refusals(tree)?,
        })
    }

    /// A line for all that is different from `before`; at the beginning, for all that there is.
    fn lines(&self, before: Option<&Self>, since: Duration, json: bool) -> Vec<String> {
        let line = |(change, extent)| extent_line(change, extent, since, json);
        let Some(before) = before else {
            let present = self
                .extents
                .values()
                .map(|extent| (Change::Present, extent));
            return present.map(line).collect();
        };
        let refused = refused(&before.refusals, &self.refusals)
            .into_iter()
            .map(|(memdev, offers, why)| refusal_line(memdev, offers, why, since, json));
        let changes = changes(&before.extents, &self.extents);
        changes.into_iter().map(line).chain(refused).collect()
    }
}

/// Shows each change on a line of its own. Without end, unless the tree says that nothing will happen any more and is not
/// `live`, or nobody reads.
///
/// # Errors
/// When the tree cannot be read.
pub fn run(tree: &dyn Tree, live: bool, json: bool, out: &mut dyn Write) -> Result<(), Problem> {
    let begin = Instant::now();
    // Before the first look, so that nothing after it is missed.
    let mut events = tree.events()?;
    let mut before = None;
    loop {
        let now = Look::at(tree)?;
        let lines = now.lines(before.as_ref(), begin.elapsed(), json);
        match print(&lines, out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result.map_err(Problem::Output)?,
        }
        before = Some(now);
        if !events.wait(FOR_EVER)? && !live {
            return Ok(());
        }
    }
}

fn print(lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn extent_line(change: Change, extent: &Extent, since: Duration, json: bool) -> String {
    let seconds = since.as_secs_f64();
    if json {
        json!({
            "event": change.word(),
            "seconds": seconds,
            "extent": list::json::extent(extent),
        })
        .to_string()
    } else {
        let line = list::text::extent_line(extent);
        let (word, region) = (change.word(), &extent.region);
        format!("{seconds:10.3}  {word:<8} {region}  {line}")
    }
}

fn refusal_line(memdev: &str, offers: u64, why: &str, since: Duration, json: bool) -> String {
    let seconds = since.as_secs_f64();
    if json {
        json!({
            "event": "refused",
            "seconds": seconds,
            "memdev": memdev,
            "offers": offers,
            "reason": why,
        })
        .to_string()
    } else if offers == 1 {
        format!("{seconds:10.3}  refused  {memdev}  an offer: {why}")
    } else {
        format!("{seconds:10.3}  refused  {memdev}  {offers} offers, the latest: {why}")
    }
}
