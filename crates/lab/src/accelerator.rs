// SPDX-License-Identifier: MIT OR Apache-2.0
//! KVM where a real boot on it works, translation otherwise.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::cache;
use crate::cache::Cache;
use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::image;
use crate::lab;
use crate::qemu::Accelerator;
use crate::topology::catalogue;
use crate::tree::Tree;

const KIND: &str = "facts";

/// Under a KVM that works the kernel speaks within a second, on a busy machine within a few; under one that does not, it
/// never does.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// How a kernel's first lines begin, before it knows the time.
const GREETING: &str = "[    0.000000] ";

/// From there the boot takes a second or two, and on a busy machine as long as it takes.
const BOOT: Duration = Duration::from_mins(1);

/// What a boot under KVM showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The agent answered.
    Works,
    /// The kernel never said a word.
    Fails,
    /// It began, and was not ready in all the time it had.
    Unclear,
}

/// Chooses how guests run: as `CXL_LAB_ACCEL` says, else as a real boot on this machine showed, which is tried once for
/// each kernel and remembered.
///
/// # Errors
/// When `CXL_LAB_ACCEL` is neither `kvm` nor `tcg`, or the answer cannot be kept.
pub fn choose(cache: &Cache, tree: &Tree, agent: &Path, events: &Events) -> Result<Accelerator> {
    if let Some(accelerator) = asked_for()? {
        return Ok(accelerator);
    }
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Accelerator::Tcg);
    }
    let host = fs::read_to_string("/proc/version").unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    let fact = format!("kvm-{}", cache::key([host.as_str(), model, tree.key()]));
    if let Some(accelerator) = recall(cache, &fact) {
        return Ok(accelerator);
    }
    let verdict = events.step("try a boot under KVM", |_| probe(tree, agent, events))?;
    match verdict {
        Verdict::Works => {}
        Verdict::Fails => events.notice(
            "KVM does not run this kernel here: guests are translated (TCG), several times slower",
        ),
        Verdict::Unclear => events.notice(format!(
            "a boot under KVM was not over in {} s: guests are translated (TCG) this time, several times slower",
            BOOT.as_secs()
        )),
    }
    remember(cache, &fact, verdict)?;
    Ok(match verdict {
        Verdict::Works => Accelerator::Kvm,
        Verdict::Fails | Verdict::Unclear => Accelerator::Tcg,
    })
}

/// What `CXL_LAB_ACCEL` says.
///
/// # Errors
/// When that is neither `kvm` nor `tcg`.
pub fn asked_for() -> Result<Option<Accelerator>> {
    match std::env::var("CXL_LAB_ACCEL").as_deref() {
        Ok("kvm") => Ok(Some(Accelerator::Kvm)),
        Ok("tcg") => Ok(Some(Accelerator::Tcg)),
        Ok(other) => Err(Error::Host {
            what: format!("CXL_LAB_ACCEL is '{other}'"),
            remedy: "set it to kvm or tcg, or not at all".into(),
        }),
        Err(_) => Ok(None),
    }
}

/// Boots a guest that holds nothing but the agent.
fn probe(tree: &Tree, agent: &Path, events: &Events) -> Result<Verdict> {
    let guest = lab::launch(
        lab::PROBE,
        tree,
        catalogue::find("one")?,
        Accelerator::Kvm,
        image::of_agent(agent)?,
        &["earlyprintk=ttyS0 loglevel=8".into()],
        events,
    )?;
    let verdict = if !guest.says_within(FIRST_WORD, GREETING) {
        Verdict::Fails
    } else if guest.wait_for_agent(BOOT).is_ok() {
        Verdict::Works
    } else {
        Verdict::Unclear
    };
    guest.kill()?;
    Ok(verdict)
}

fn recall(cache: &Cache, fact: &str) -> Option<Accelerator> {
    match fs::read_to_string(cache.path(KIND, fact)).as_deref() {
        Ok("works") => Some(Accelerator::Kvm),
        Ok("fails") => Some(Accelerator::Tcg),
        _ => None,
    }
}

/// Keeps what is certain: a machine may have been too busy this time.
fn remember(cache: &Cache, fact: &str, verdict: Verdict) -> Result<()> {
    let word = match verdict {
        Verdict::Works => "works",
        Verdict::Fails => "fails",
        Verdict::Unclear => return Ok(()),
    };
    let folder = cache.root().join(KIND);
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    // Renamed when it is whole: several labs may look at once, and each may be interrupted.
    let scratch = folder.join(format!("{}.new", std::process::id()));
    fs::write(&scratch, word).map_err(Error::file("write", &scratch))?;
    let path = cache.path(KIND, fact);
    fs::rename(&scratch, &path).map_err(Error::file("rename a file to", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certain_is_remembered_and_nothing_else_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        assert_eq!(recall(&cache, "kvm"), None);
        remember(&cache, "kvm", Verdict::Unclear).unwrap();
        assert_eq!(recall(&cache, "kvm"), None);
        remember(&cache, "kvm", Verdict::Fails).unwrap();
        assert_eq!(recall(&cache, "kvm"), Some(Accelerator::Tcg));
        remember(&cache, "kvm", Verdict::Works).unwrap();
        assert_eq!(recall(&cache, "kvm"), Some(Accelerator::Kvm));
        for word in ["", "work", "works\n"] {
            fs::write(cache.path(KIND, "kvm"), word).unwrap();
            assert_eq!(recall(&cache, "kvm"), None, "{word:?}");
        }
        assert_eq!(cache.entries(KIND), ["kvm"]);
    }
}
