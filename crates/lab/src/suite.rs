// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs tests on the real kernel, with libtest's command line and output.
//!
//! Tests that ask for the same boot share guests: one that passed gives its guest to the next. A test that fails, or that
//! asks to be alone, ends its guest. After each test the kernel's log must be clean, and a guest that goes on to another
//! test must be as the test found it.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
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

/// How many guests may wait for a test that wants them.
const IDLE_LIMIT: usize = 2;

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

/// What a test may not leave behind in a guest that others use after it.
///
/// `daxctl` leaves the names of devices with the drivers that it gave them to, and these would take the next test's devices.
/// Nobody can list such names, so they are taken back unseen.
const LEFTOVERS: &str = "
for file in /sys/bus/dax/drivers/*/remove_id; do
    for name in dax{0..3}.{0..3}; do echo $name > $file; done
done 2>/dev/null
cd /sys/bus/cxl/devices 2>/dev/null || exit 0
ls -d region* 2>/dev/null
grep -H -v -x 0 {port,endpoint}*/decoders_committed 2>/dev/null
true";

/// A test on the real kernel.
pub struct Test {
    name: String,
    boot: Boot,
    alone: bool,
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
            alone: false,
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
            alone: true,
            steps: Steps::Two(Box::new(steps)),
        }
    }

    /// Wants a fresh guest, and leaves one that nobody else can use.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// Runs the tests that the command line selects.
#[must_use]
pub fn run(mut tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let events = Events::new(screen::in_lines());
    let house = Arc::new(House {
        lab: OnceLock::new(),
        idle: Mutex::default(),
        events,
    });
    // The long ones come first, so that none is left over at the end; those that can share a guest follow each other.
    tests.sort_by_cached_key(|test| (!test.alone, format!("{:?}", test.boot)));
    let trials = tests
        .into_iter()
        .map(|test| {
            let house = house.clone();
            Trial::test(test.name.clone(), move || {
                house.run(&test).map_err(Failed::from)
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The lab, opened when the first test runs, and the guests that wait for the next test.
struct House {
    lab: OnceLock<Result<Lab, String>>,
    idle: Mutex<Vec<(Boot, Guest)>>,
    events: Events,
}

impl House {
    fn run(&self, test: &Test) -> Result<(), String> {
        let lab = self.lab.get_or_init(|| {
            Kernel::from_environment()
                .and_then(|kernel| Lab::open_with(kernel, &self.events))
                .map_err(|error| error.to_string())
        });
        let lab = lab.as_ref().map_err(Clone::clone)?;
        match &test.steps {
            Steps::One(steps) => {
                let guest = self.take(lab, test).map_err(|error| error.to_string())?;
                self.judge(test, &[&guest], || {
                    steps(&guest)?;
                    if test.alone {
                        Ok(())
                    } else {
                        check_left_as_found(&guest)
                    }
                })?;
                if !test.alone {
                    self.give_back(test.boot.clone(), guest);
                }
            }
            Steps::Two(steps) => {
                let (one, other) = lab
                    .boot_pair(test.boot.clone())
                    .map_err(|error| error.to_string())?;
                self.judge(test, &[&one, &other], || steps(&one, &other))?;
            }
        }
        Ok(())
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

    fn take(&self, lab: &Lab, test: &Test) -> Result<Guest> {
        let surplus = {
            let mut idle = self.idle();
            let found = idle.iter().position(|(boot, _)| *boot == test.boot);
            if let (false, Some(found)) = (test.alone, found) {
                return Ok(idle.remove(found).1);
            }
            // Tests come sorted by boot: the guest that waits longest is the one that nobody will ask for.
            (idle.len() >= IDLE_LIMIT).then(|| idle.remove(0))
        };
        drop(surplus);
        lab.boot(test.boot.clone())
    }

    fn give_back(&self, boot: Boot, guest: Guest) {
        self.idle().push((boot, guest));
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Boot, Guest)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_left_as_found(guest: &Guest) -> Result<()> {
    let leftovers = guest.sh_ok(LEFTOVERS)?;
    if leftovers.trim().is_empty() {
        Ok(())
    } else {
        Err(Error::test(format!(
            "the test left behind what the next one would stumble over: {}",
            leftovers.split_whitespace().collect::<Vec<_>>().join(", ")
        )))
    }
}

/// The kernel's log of the test, and the state that the guest is in.
fn evidence(guest: &Guest, from: usize) -> String {
    let (Ok(log), Ok(state)) = (guest.kernel_log(), guest.sh(EVIDENCE)) else {
        return "the guest no longer answers".into();
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
