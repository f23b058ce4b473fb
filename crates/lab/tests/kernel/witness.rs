// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own record of every block that anybody tried to bring online or offline.
//!
//! To look at the blocks now and then would miss what happened between. So a probe sits on the return of the two functions
//! through which every change goes, whoever asked for it.

use lab::Error;
use lab::Guest;
use lab::Result;

use crate::support;

const TRACING: &str = "/sys/kernel/tracing";

/// The probes: the kernel's type information names the arguments.
const PROBES: &[&str] = &[
    "f:witness/online online_pages%return pfn=pfn zone=zone->name:string errno=$retval:s32",
    "f:witness/offline offline_pages%return pfn=start_pfn zone=zone->name:string errno=$retval:s32",
];

/// What somebody tried to do with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whether it was to go online, or offline.
    pub online: bool,
    /// The block's number.
    pub block: u64,
    /// The zone that it was to go to, or was in.
    pub zone: String,
    /// 0, or the errno of the refusal.
    pub errno: i32,
}

/// Watches all blocks of a guest, until it is dropped or stopped.
pub struct Witness<'g> {
    guest: &'g Guest,
    pages_per_block: u64,
}

impl<'g> Witness<'g> {
    /// Watches from now on.
    pub fn start(guest: &'g Guest) -> Result<Self> {
        let probes: Vec<String> = PROBES
            .iter()
            .map(|probe| format!("echo '{probe}' >> {TRACING}/dynamic_events"))
            .collect();
        guest.sh_ok(&format!(
            "set -e; {}; echo > {TRACING}/trace; echo 1 > {TRACING}/events/witness/enable",
            probes.join("; ")
        ))?;
        Ok(Self {
            guest,
            pages_per_block: support::block_size(guest)? / 4096,
        })
    }

    /// All that was tried, in order.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let lost = self.guest.sh_ok(&format!(
            "grep -hE '^(overrun|dropped events):' {TRACING}/per_cpu/cpu*/stats | grep -v ': 0$'; true"
        ))?;
        support::ensure(
            lost.is_empty(),
            format!("the kernel did not keep all of its record: {lost}"),
        )?;
        let trace = self
            .guest
            .sh_ok(&format!("grep -v '^#' {TRACING}/trace; true"))?;
        trace.lines().map(|line| self.parse(line)).collect()
    }

    /// The same, of these blocks alone; the record starts anew.
    pub fn take(&self, blocks: &[u64]) -> Result<Vec<Change>> {
        let mut changes = self.changes()?;
        self.guest.write(&format!("{TRACING}/trace"), "")?;
        changes.retain(|change| blocks.contains(&change.block));
        Ok(changes)
    }

    /// Watches no more.
    pub fn stop(self) -> Result<()> {
        let removals: Vec<String> = PROBES
            .iter()
            .map(|probe| {
                let event = probe.split_whitespace().next().unwrap_or_default();
                format!("echo '-:{}' >> {TRACING}/dynamic_events", &event[2..])
            })
            .collect();
        self.guest
            .sh_ok(&format!(
                "set -e; echo 0 > {TRACING}/events/witness/enable; {}; echo > {TRACING}/trace",
                removals.join("; ")
            ))
            .map(drop)
    }

    /// `… online: (…) pfn=4784128 zone="Movable" errno=0`
    fn parse(&self, line: &str) -> Result<Change> {
        let field = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        let parsed = || {
            Some(Change {
                online: line.contains(" online: "),
                block: field("pfn")?.parse::<u64>().ok()? / self.pages_per_block,
                zone: field("zone")?,
                errno: field("errno")?.parse().ok()?,
            })
        };
        parsed().ok_or_else(|| Error::test(format!("the trace reads '{line}'")))
    }
}

/// The zones that blocks went online in, each once.
pub fn zones_entered(changes: &[Change]) -> Vec<&str> {
    let mut zones: Vec<&str> = changes
        .iter()
        .filter(|change| change.online && change.errno == 0)
        .map(|change| change.zone.as_str())
        .collect();
    zones.sort_unstable();
    zones.dedup();
    zones
}
