// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that the lab runs on: its packages, its privileges, its package registry.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::event::Step;
use crate::program;

/// What must be on the host, and the Debian package that brings it. All else comes from the tree.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/mmdebstrap", "mmdebstrap"),
    (KEYRING, "debian-archive-keyring"),
    ("/usr/bin/cc", "gcc"),
    ("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/unshare", "util-linux"),
];

/// Somebody else may be installing something; and what could not be read is no success.
const APT_OPTIONS: &[&str] = &[
    "-q",
    "-o",
    "DPkg::Lock::Timeout=600",
    "-o",
    "APT::Update::Error-Mode=any",
];

/// The keys of the Debian archive.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const LIFELINE: &str = include_str!("scripts/lifeline.sh");

/// Environment that programs with privileges still need: `sudo` drops it.
const KEPT_ENVIRONMENT: &[&str] = &["http_proxy", "https_proxy", "no_proxy"];

/// Where root's programs are; a user's own path often leaves out the administrator's folders.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Checks that this machine can be a lab at all, and installs what it lacks.
///
/// # Errors
/// One sentence on what is missing and cannot be installed.
pub fn ensure_packages(events: &Events) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::Host {
            what: "the lab runs on Linux on x86-64 only".into(),
            remedy: "use such a machine".into(),
        });
    }
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(Error::Host {
            what: format!(
                "this machine lacks {} and has no apt-get",
                missing.join(", ")
            ),
            remedy: "use Debian 12 or 13, or install them by hand".into(),
        });
    }
    events.step(
        format!("install {} on this machine", missing.join(", ")),
        |step| install(step, &missing),
    )
}

fn install(step: &Step, packages: &[&str]) -> Result<()> {
    let as_root = |words: &[&str]| -> Result<Command> {
        let mut command = as_root()?;
        command
            .args(["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"])
            .args(words);
        Ok(command)
    };
    let update = [&["apt-get"], APT_OPTIONS, &["update"]].concat();
    let install = [
        &["apt-get"],
        APT_OPTIONS,
        &["install", "-y", "--no-install-recommends"],
        packages,
    ]
    .concat();
    // A registry that has nothing to do with these packages may be what cannot be read.
    let updated = program::run(step, "apt-get update", as_root(&update)?);
    let mut installed = program::run(step, "apt-get install", as_root(&install)?);
    if let Err(Error::Program { log, .. }) = &installed
        && log.contains("dpkg --configure -a")
    {
        // Somebody's installation was interrupted; until it is finished, dpkg begins no other.
        let repair = as_root(&["dpkg", "--configure", "-a"])?;
        program::run(step, "finishing an interrupted installation (dpkg)", repair)?;
        installed = program::run(step, "apt-get install", as_root(&install)?);
    }
    match (installed, updated) {
        (Ok(_), _) => Ok(()),
        (Err(_), Err(error)) => Err(unreachable(
            "the package registry of this machine's apt",
            &error,
            "check the network and /etc/apt/sources.list.d",
        )),
        (Err(error), Ok(_)) => Err(error),
    }
}

/// One sentence out of all that `apt-get update` said about a registry.
pub(crate) fn unreachable(registry: &str, error: &Error, remedy: &str) -> Error {
    let said = error.to_string();
    let reason = said
        .lines()
        .find_map(|line| line.strip_prefix("E: "))
        .unwrap_or("apt-get update failed");
    Error::Host {
        what: format!("{registry} cannot be read ({reason})"),
        remedy: remedy.into(),
    }
}

/// The beginning of a command that runs as root: nothing where we are root, else `sudo -n`.
///
/// # Errors
/// When we are not root and `sudo` wants a password or is not there.
pub fn as_root() -> Result<Command> {
    let mut command;
    if rustix::process::geteuid().is_root() {
        command = Command::new("env");
    } else {
        let allowed = Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !allowed {
            return Err(Error::Host {
                what: "making the lab needs root, and 'sudo -n' does not give it".into(),
                remedy: "run as root, or allow this user sudo without a password".into(),
            });
        }
        command = Command::new("sudo");
        command.args(["-n", "env"]);
    }
    command.arg(PATH);
    for name in KEPT_ENVIRONMENT {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    Ok(command)
}

/// The beginning of a command that runs as root in its own mount and PID namespace and never outlives the lab: the words
/// that follow are a program and its arguments. To be started by [`program::run`], whose open pipe is its lifeline.
///
/// # Errors
/// As [`as_root`].
pub fn confined() -> Result<Command> {
    let mut command = as_root()?;
    command.args([
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ]);
    command.args(["bash", "-c", LIFELINE, "lifeline"]);
    Ok(command)
}

/// Checks that a file system has so many bytes free.
///
/// # Errors
/// When it has not.
pub fn ensure_space(folder: &Path, bytes: u64) -> Result<()> {
    const GIB: u64 = 1 << 30;
    let space = rustix::fs::statvfs(folder)
        .map_err(|error| Error::file("ask for free space at", folder)(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= bytes {
        return Ok(());
    }
    Err(Error::Host {
        what: format!(
            "{} has {} GiB free, and the lab needs {} GiB",
            folder.display(),
            free / GIB,
            bytes / GIB
        ),
        remedy: "make room, or set CXL_LAB_CACHE to a folder elsewhere".into(),
    })
}

/// Removes a folder whose content may belong to root.
///
/// # Errors
/// When something of it stays.
pub fn remove_folder(path: &Path) -> Result<()> {
    if !path.exists() || std::fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    let mut command = as_root()?;
    command
        .args(["rm", "-rf", "--one-file-system", "--"])
        .arg(path);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(Error::file("remove", path))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Program {
            what: format!("removing {}", path.display()),
            status: status.to_string(),
            log: String::new(),
        })
    }
}

/// The Debian mirror: `CXL_LAB_MIRROR`, else the one that this machine's own apt uses.
///
/// # Errors
/// When apt knows none.
pub fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("CXL_LAB_MIRROR") {
        return Ok(mirror);
    }
    // What a target's release says of itself (origin, label) is known only after an update, so the site comes second.
    let targets = apt_lines(
        "apt-get",
        &[
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
            "Origin: Debian",
            "Label: Debian",
        ],
    );
    targets.into_iter().next().ok_or_else(|| Error::Host {
        what: "this machine's apt names no Debian mirror".into(),
        remedy: "run 'apt-get update', or set CXL_LAB_MIRROR to the address of one".into(),
    })
}

/// How this machine's apt reaches its mirrors (proxies and the like), as `apt.conf` lines.
#[must_use]
pub fn acquire_options() -> Vec<String> {
    apt_lines("apt-config", &["dump", "--no-empty"])
        .into_iter()
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            line.starts_with("acquire::http::")
                || line.starts_with("acquire::https::")
                || line.starts_with("acquire::retries")
        })
        .collect()
}

fn apt_lines(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .map(str::to_owned)
        .collect()
}
