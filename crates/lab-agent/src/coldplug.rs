// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts udev and replays the arrival of all hardware to it, as a distribution's boot does.

use std::process::Command;

/// Each step must succeed. The daemon's own memory stays on node 0: under emulation CXL memory is slow, and a daemon whose
/// pages lie there would pin the very memory that the tests take away.
const STEPS: &[&[&str]] = &[
    &[
        "numactl",
        "--membind=0",
        "/usr/lib/systemd/systemd-udevd",
        "--daemon",
    ],
    &["udevadm", "trigger", "--type=subsystems", "--action=add"],
    &["udevadm", "trigger", "--type=devices", "--action=add"],
    &["udevadm", "settle", "--timeout=300"],
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
