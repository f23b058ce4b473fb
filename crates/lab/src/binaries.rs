// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the project's own programs for the guest: static, so that the guest's libraries do not matter.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::error::Result;
use crate::event::Events;
use crate::program;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The programs, on the host.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The guest's init.
    pub agent: PathBuf,
    /// The project's tool.
    pub cxlr: PathBuf,
    /// What manages the fabric, for a guest behind a switch.
    pub fabric_manager: PathBuf,
    /// What plays the scripts of random walks.
    pub walk: PathBuf,
}

/// Builds what changed.
///
/// # Errors
/// What the compiler says.
pub fn ensure(repository: &Path, events: &Events) -> Result<Binaries> {
    // A folder of their own: the flags differ from those of the host's builds.
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(
            || repository.join("target"),
            |folder| repository.join(folder),
        )
        .join("guest");
    events.step("build the guest's agent and tool", |step| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args([
                "build",
                "--profile",
                "guest",
                "--target",
                TARGET,
                "-p",
                "lab-agent",
                "-p",
                "cxlr",
                "-p",
                "fabric-manager",
                "-p",
                "walk",
            ])
            .arg("--target-dir")
            .arg(&folder)
            .current_dir(repository)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        program::run(step, "building the guest's programs (cargo)", command)
    })?;
    let built = folder.join(TARGET).join("guest");
    Ok(Binaries {
        agent: built.join("lab-agent"),
        cxlr: built.join("cxlr"),
        fabric_manager: built.join("fabric-manager"),
        walk: built.join("walk"),
    })
}
