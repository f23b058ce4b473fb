// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong, as a user is told: what, where, the rule, the remedy. And the exit status.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use region_policy::online_type::OnlineType;

use crate::plan::attach;
use crate::plan::cxl_attribute;

/// Success.
pub const OK: u8 = 0;
/// Something failed on the way, and every step before it was undone.
pub const UNDONE: u8 = 1;
/// The command line is wrong; nothing was tried. (clap's own number.)
pub const USAGE: u8 = 2;
/// Something failed on the way, and not everything could be undone or done: the report says what is left.
pub const LEFT: u8 = 3;
/// Refused before anything was written: not found, not possible, not supported.
pub const REFUSED: u8 = 4;

/// What the exit statuses mean, as help and manual page tell them.
pub const EXIT_STATUSES: [(u8, &str); 5] = [
    (OK, "done, and verified by counting"),
    (UNDONE, "a step failed; all steps before it were undone"),
    (USAGE, "the command line is wrong; nothing was tried"),
    (
        LEFT,
        "a step failed, and so did undoing it, or an extent could not be given back; the report names what is left",
    ),
    (
        REFUSED,
        "refused before anything was written: not found, not possible, not supported",
    ),
];

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Problem {
    /// The machine could not be read.
    Unreadable(cxl_sysfs::Error),
    /// It was clear beforehand that it cannot work.
    Refused(Refusal),
    /// A step failed.
    Failed(Box<Failure>),
    /// Extents that were to be given back stay.
    Kept {
        /// Their names, and what the kernel says of each.
        kept: Vec<(String, String)>,
        /// Whether there were others, which went.
        others: bool,
    },
    /// The result could not be printed.
    Output(std::io::Error),
}

/// It was clear beforehand that it cannot work. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What cannot be done.
    pub what: String,
    /// The device or attribute that stands in the way.
    pub place: Option<String>,
    /// The rule behind it.
    pub rule: String,
    /// What to do instead.
    pub remedy: String,
}

impl Refusal {
    /// A refusal without a place.
    pub fn new(
        what: impl Into<String>,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            place: None,
            rule: rule.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, with the device or attribute that stands in the way.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }
}

/// A step failed.
#[derive(Debug)]
pub struct Failure {
    /// The step, as a phrase: `commit region0`.
    pub step: String,
    /// Why it failed.
    pub cause: Cause,
    /// What could not be undone; empty when all was.
    pub left: Vec<String>,
}

/// Why a step failed.
#[derive(Debug)]
pub enum Cause {
    /// The kernel refused, or could not be read.
    Kernel(cxl_sysfs::Error),
    /// The kernel said yes, and counting says no.
    Uncounted {
        /// Where it was counted.
        place: String,
        /// What was asked for.
        wanted: String,
        /// What was counted.
        counted: String,
    },
    /// There is memory where none may be.
    Present {
        /// The region that it belongs to.
        region: String,
        /// What was counted.
        counted: String,
    },
    /// Memory that was left behind has another policy than the one that was asked for.
    LeftBehind {
        /// The region.
        region: String,
        /// The policy.
        was: OnlineType,
    },
    /// The kernel did not do what it does by itself.
    Silent {
        /// What was waited for.
        what: String,
        /// Where it should appear.
        path: PathBuf,
        /// How long the kernel had been silent.
        silence: Duration,
    },
    /// A signal asked to stop.
    Interrupted,
}

impl Problem {
    /// The exit status that tells it.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Unreadable(_) | Self::Refused(_) => REFUSED,
            Self::Failed(failure) if failure.left.is_empty() => UNDONE,
            Self::Failed(_) | Self::Kept { .. } => LEFT,
            Self::Output(_) => UNDONE,
        }
    }
}

impl From<cxl_sysfs::Error> for Problem {
    fn from(error: cxl_sysfs::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => {
                write!(formatter, "{error}")?;
                advice(formatter, error.rule(), error.remedy())
            }
            Self::Refused(refusal) => refusal.fmt(formatter),
            Self::Failed(failure) => failure.fmt(formatter),
            Self::Kept { kept, others } => {
                formatter.write_str("not all extents were given back:")?;
                for (name, state) in kept {
                    write!(formatter, "\n          - {name}: {state}")?;
                }
                advice(
                    formatter,
                    Some(
                        "memory is given back when nobody uses it any more: every page moved away, every mapping closed",
                    ),
                    Some(
                        "stop what uses it, and ask again; the kernel's log names what is in the way: dmesg",
                    ),
                )?;
                formatter.write_str(if *others {
                    "\n  state:  the others were given back"
                } else {
                    "\n  state:  none was given back"
                })
            }
            Self::Output(error) => write!(formatter, "cannot print the result: {error}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)?;
        if let Some(place) = &self.place {
            write!(formatter, "\n  where:  {place}")?;
        }
        advice(formatter, Some(&self.rule), Some(&self.remedy))?;
        formatter.write_str("\n  state:  nothing was changed")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "could not {}: {}", self.step, self.cause)?;
        if let Some(place) = self.cause.place() {
            write!(formatter, "\n  where:  {place}")?;
        }
        advice(formatter, self.cause.rule(), self.cause.remedy().as_deref())?;
        if self.left.is_empty() {
            return formatter.write_str("\n  state:  every step before it was undone");
        }
        formatter
            .write_str("\n  state:  NOT everything could be undone; what is left to do by hand:")?;
        for left in &self.left {
            write!(formatter, "\n          - {left}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(formatter),
            Self::Uncounted {
                wanted, counted, ..
            } => {
                write!(
                    formatter,
                    "the kernel reported success, but asked for was {wanted}, and counted were {counted}"
                )
            }
            Self::Present { region, counted } => {
                write!(
                    formatter,
                    "memory is still at the addresses of {region}: {counted}"
                )
            }
            Self::LeftBehind { region, was } => {
                write!(formatter, "memory of {region} stayed behind as {was}")
            }
            Self::Silent { what, silence, .. } => {
                write!(
                    formatter,
                    "{what} did not appear, and the kernel has been silent for {} s",
                    silence.as_secs()
                )
            }
            Self::Interrupted => formatter.write_str("a signal asked to stop"),
        }
    }
}

impl Cause {
    fn place(&self) -> Option<String> {
        match self {
            // The error's own sentence has the path in it.
            Self::Kernel(_) | Self::Interrupted => None,
            Self::LeftBehind { region, .. } => Some(
                cxl_attribute(&attach::sysram_region(region), "online_type")
                    .display()
                    .to_string(),
            ),
            Self::Uncounted { place, .. } => Some(place.clone()),
            Self::Present { region, .. } => {
                Some(format!("{}/{region}", cxl_sysfs::device::CXL_DEVICES))
            }
            Self::Silent { path, .. } => Some(path.display().to_string()),
        }
    }

    fn rule(&self) -> Option<&str> {
        match self {
            Self::Kernel(error) => error.rule(),
            Self::Uncounted { .. } => {
                Some("a device is wholly in one state or the step has failed: success is counted")
            }
            Self::Present { .. } => Some(
                "memory that nobody could move stays behind its driver, and whoever uses it dies when its decoders are reset",
            ),
            Self::LeftBehind { .. } => Some(
                "memory that could not go when its driver went keeps its policy, and is taken up as it is",
            ),
            Self::Silent { .. } => {
                Some("the drivers of the CXL and dax buses create this device by themselves")
            }
            Self::Interrupted => Some("between two steps a signal ends the transaction"),
        }
    }

    fn remedy(&self) -> Option<Cow<'_, str>> {
        let fixed = match self {
            Self::LeftBehind { region, was } => {
                return Some(Cow::Owned(format!(
                    "cxlr bind {region} --driver sysram --online-type {was}; or stop what uses the memory, and run this again"
                )));
            }
            Self::Kernel(error) => error.remedy()?,
            Self::Uncounted { .. } => "look at the kernel's log for the block that failed: dmesg",
            Self::Present { .. } => "stop what uses it, and run this again",
            Self::Silent { .. } => {
                "look at the kernel's log, and whether its modules are loaded: lsmod | grep -e cxl -e dax"
            }
            Self::Interrupted => return None,
        };
        Some(Cow::Borrowed(fixed))
    }
}

fn advice(
    formatter: &mut fmt::Formatter<'_>,
    rule: Option<&str>,
    remedy: Option<&str>,
) -> fmt::Result {
    if let Some(rule) = rule {
        write!(formatter, "\n  rule:   {rule}")?;
    }
    if let Some(remedy) = remedy {
        write!(formatter, "\n  remedy: {remedy}")?;
    }
    Ok(())
}
