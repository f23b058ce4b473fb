// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs tests on the real kernel, with libtest's command line and output.
//!
//! Tests that ask for the same boot share guests: one that passed gives its guest to the next (see [`turns`]). A test that
//! fails, or says that it is the last, ends its guest. After each test the kernel's log must be clean, and a guest that goes
//! on to another test must be as the test found it.

mod turns;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::event::Events;
use crate::guest;
use crate::guest::Guest;
use crate::kernel_log;
use crate::lab::Boot;
use crate::lab::Lab;
use crate::screen;
use crate::tree::Kernel;
use turns::Turns;
use turns::Who;

/// What a reader of a failure wants to see of the guest.
const EVIDENCE: &str = "
cxl list -BDTRMu 2>/dev/null
ls -l /sys/bus/cxl/devices /sys/bus/dax/devices /sys/bus/cxl/drivers 2>/dev/null
grep -s . /sys/bus/dax/devices/*/{state,hotplug,size,target_node}
grep -s . /sys/devices/system/memory/auto_online_blocks
for block in /sys/devices/system/memory/memory*; do
    echo \"${block##*/} $(cat $block/state) $(cat $block/valid_zones)\"
done | sort -V | uniq -c -f1
grep -i -E 'cxl|dax|region' /proc/iomem
lsmod
";

/// What a test may not leave behind in a guest that others use after it: regions, and decoders that are committed.
const LEFTOVERS: [&str; 3] = [
    "/sys/bus/cxl/devices/region*",
    "/sys/bus/cxl/devices/port*/decoders_committed",
    "/sys/bus/cxl/devices/endpoint*/decoders_committed",
];

/// What a test may leave behind, and is cleaned up after it.
///
/// `daxctl` leaves the names of devices with the drivers that it gave them to, and these would take the next test's devices.
/// Nobody can list such names, so they are taken back unseen.
const CLEANING: &str = "
for file in /sys/bus/dax/drivers/*/remove_id; do
    for name in dax{0..3}.{0..3}; do echo $name > $file; done
done 2>/dev/null
true";

/// A test on the real kernel.
pub struct Test {
    name: String,
    boot: Boot,
    last: bool,
    steps: Steps,
}

/// What a test does, with how many guests.
enum Steps {
    One(Box<WithOne>),
    Two(Box<WithTwo>),
}

type WithOne = dyn Fn(&Guest) -> Result<()> + Send + Sync;
type WithTwo = dyn Fn(&Guest, &Guest) -> Result<()> + Send + Sync;

impl Test {
    /// A test: a sentence about behaviour, what to boot, what to do.
    pub fn new(
        name: impl Into<String>,
        boot: Boot,
        steps: impl Fn(&Guest) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            boot,
            last: false,
            steps: Steps::One(Box::new(steps)),
        }
    }

    /// A test with two guests that are up at once and share the memory of their memory devices: see [`Lab::boot_pair`].
    pub fn pair(
        name: impl Into<String>,
        boot: Boot,
        steps: impl Fn(&Guest, &Guest) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            boot,
            last: true,
            steps: Steps::Two(Box::new(steps)),
        }
    }

    /// Leaves a guest that nobody else can use, and so comes last of those that share one.
    #[must_use]
    pub fn last(mut self) -> Self {
        self.last = true;
        self
    }
}

/// Runs the tests that the command line selects.
#[must_use]
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let at_once = arguments
        .test_threads
        .or_else(|| thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1);
    // All come at once, and wait for their turn: who is next depends on all that wait.
    arguments.test_threads = Some(tests.len().max(2));
    let house = Arc::new(House {
        lab: OnceLock::new(),
        turns: Turns::new(at_once),
        events: Events::new(screen::in_lines()),
    });
    let trials = tests
        .into_iter()
        .enumerate()
        .map(|(number, test)| {
            let house = house.clone();
            Trial::test(test.name.clone(), move || {
                let shares = matches!(test.steps, Steps::One(_));
                let who = Who {
                    kind: shares.then(|| test.boot.clone()),
                    last: test.last,
                };
                let run = |guest| house.run(&test, guest);
                house.turns.take(number, who, run).map_err(Failed::from)
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The lab, opened when the first test runs, and what tests share.
struct House {
    lab: OnceLock<Result<Lab, String>>,
    turns: Turns<Boot, Guest>,
    events: Events,
}

impl House {
    /// Runs a test in this guest, or in one of its own. Returns how it went, and the guest for the next.
    fn run(&self, test: &Test, guest: Option<Guest>) -> (Result<(), String>, Option<Guest>) {
        let lab = self.lab.get_or_init(|| {
            Kernel::from_environment()
                .and_then(|kernel| Lab::open_with(kernel, &self.events))
                .map_err(|error| error.to_string())
        });
        let lab = match lab {
            Ok(lab) => lab,
            Err(error) => return (Err(error.clone()), None),
        };
        let boot = || test.boot.clone();
        match &test.steps {
            Steps::One(steps) => {
                let guest = match guest.map_or_else(|| lab.boot(boot()), Ok) {
                    Ok(guest) => guest,
                    Err(error) => return (Err(error.to_string()), None),
                };
                let result = self.judge(test, &[&guest], || {
                    steps(&guest)?;
                    if test.last {
                        Ok(())
                    } else {
                        check_left_as_found(&guest)
                    }
                });
                let next = (result.is_ok() && !test.last).then_some(guest);
                (result, next)
            }
            Steps::Two(steps) => {
                let result = lab
                    .boot_pair(boot())
                    .map_err(|error| error.to_string())
                    .and_then(|(one, other)| {
                        self.judge(test, &[&one, &other], || steps(&one, &other))
                    });
                (result, None)
            }
        }
    }

    /// Runs a test's steps, and looks at the kernels' logs afterwards.
    fn judge(
        &self,
        test: &Test,
        guests: &[&Guest],
        steps: impl FnOnce() -> Result<()>,
    ) -> Result<(), String> {
        for guest in guests {
            self.events.emit(&Event::TestStarted {
                test: test.name.clone(),
                guest: guest.id(),
            });
        }
        let started = Instant::now();
        let logs: Vec<(&Guest, usize)> = guests
            .iter()
            .map(|guest| (*guest, guest.kernel_log().map_or(0, |log| log.len())))
            .collect();
        let result = steps()
            .and_then(|()| {
                logs.iter()
                    .filter(|(guest, _)| !guest.is_gone())
                    .try_for_each(|(guest, log)| guest.assert_clean_log(*log))
            })
            .map_err(|error| {
                let evidence: Vec<String> = logs
                    .iter()
                    .map(|(guest, log)| evidence(guest, *log))
                    .collect();
                format!("{error}\n{}", evidence.join("\n"))
            });
        self.events.emit(&Event::TestEnded {
            test: test.name.clone(),
            failure: result.as_ref().err().cloned(),
            seconds: guest::since(started),
        });
        result
    }
}

fn check_left_as_found(guest: &Guest) -> Result<()> {
    guest.sh_ok(CLEANING)?;
    let seen = guest.look(&LEFTOVERS)?;
    let leftovers: Vec<String> = seen
        .into_iter()
        .filter(|(_, content)| content.as_deref() != Some("0"))
        .map(|(path, _)| path)
        .collect();
    if leftovers.is_empty() {
        Ok(())
    } else {
        Err(Error::test(format!(
            "the test left behind what the next one would stumble over: {}",
            leftovers.join(", ")
        )))
    }
}

/// The kernel's log of the test, and the state that the guest is in.
fn evidence(guest: &Guest, from: usize) -> String {
    // Where the guest no longer answers, its console is told.
    let (log, state) = match guest
        .kernel_log()
        .and_then(|log| Ok((log, guest.sh(EVIDENCE)?)))
    {
        Ok(both) => both,
        Err(error) => return error.to_string(),
    };
    let log: Vec<String> = log
        .get(from..)
        .unwrap_or_default()
        .iter()
        .map(kernel_log::line)
        .collect();
    format!(
        "--- the kernel's log ---\n{}\n--- the guest's state ---\n{}",
        log.join("\n"),
        state.stdout.trim_end()
    )
}
