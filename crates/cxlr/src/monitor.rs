// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents as they come, change and go.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use cxl_sysfs::Tree;
use cxl_sysfs::extent;
use cxl_sysfs::extent::Extent;
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

/// Shows each change on a line of its own. Without end, unless the tree says that nothing will happen any more and is not
/// `live`, or nobody reads.
///
/// # Errors
/// When the tree cannot be read.
pub fn run(tree: &dyn Tree, live: bool, json: bool, out: &mut dyn Write) -> Result<(), Problem> {
    let begin = Instant::now();
    // Before the first look, so that nothing after it is missed.
    let mut events = tree.events()?;
    let mut before: Option<BTreeMap<String, Extent>> = None;
    loop {
        let now: BTreeMap<String, Extent> = extent::all(tree)?
            .into_iter()
            .map(|extent| (extent.name.clone(), extent))
            .collect();
        let happened = match &before {
            None => now
                .values()
                .map(|extent| (Change::Present, extent))
                .collect(),
            Some(before) => changes(before, &now),
        };
        for (change, extent) in happened {
            match show(change, extent, begin.elapsed(), json, out) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                result => result.map_err(Problem::Output)?,
            }
        }
        before = Some(now);
        if !events.wait(FOR_EVER)? && !live {
            return Ok(());
        }
    }
}

fn show(
    change: Change,
    extent: &Extent,
    since: Duration,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let seconds = since.as_secs_f64();
    if json {
        let line = json!({
            "event": change.word(),
            "seconds": seconds,
            "extent": list::json::extent(extent),
        });
        writeln!(out, "{line}")?;
    } else {
        let line = list::text::extent_line(extent);
        writeln!(
            out,
            "{seconds:10.3}  {:<8} {}  {line}",
            change.word(),
            extent.region
        )?;
    }
    out.flush()
}
