// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts udev and replays the arrival of all hardware to it, as a distribution's boot does.

use std::process::Command;

/// Each step must succeed. The daemon's own memory stays on node 0: under emulation CXL memory is slow, and a daemon whose
/// pages lie there would pin the very memory that the tests take away.
///
/// Under emulation coldplug is most of a boot, and forking is most of coldplug: one worker takes all of it, and as many as
/// udev likes what comes later. A quarter of all devices are terminals that nobody sits at.
const STEPS: &[&[&str]] = &[
    &[
        "numactl",
        "--membind=0",
        "/usr/lib/systemd/systemd-udevd",
        "--daemon",
        "--children-max=1",
    ],
    &["udevadm", "trigger", "--type=subsystems", "--action=add"],
    &[
        "udevadm",
        "trigger",
        "--type=devices",
        "--action=add",
        "--subsystem-nomatch=tty",
    ],
    &["udevadm", "settle", "--timeout=300"],
    &["udevadm", "control", "--children-max=0"],
];

/// Returns when udev's queue is empty.
pub fn run() -> Result<(), String> {
    for step in STEPS {
        let output = Command::new(step[0])
            .args(&step[1..])
            .output()
            .map_err(|error| format!("start {}: {error}", step[0]))?;
        if !output.status.success() {
            return Err(format!(
                "{}: {}: {}",
                step.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
    }
    Ok(())
}
