// SPDX-License-Identifier: MIT OR Apache-2.0
//! KVM where a real boot on it works, translation otherwise.

use std::fs;
use std::fs::File;
use std::time::Duration;

use crate::cache;
use crate::error::Error;
use crate::error::Result;
use crate::lab::Lab;
use crate::qemu::Accelerator;
use crate::topology::catalogue;

const KIND: &str = "facts";

/// A boot under a KVM that works takes a second or two; under one that does not, nothing ever comes.
const PROBE: Duration = Duration::from_secs(10);

/// Chooses how guests run: as `CXL_LAB_ACCEL` says, else as a real boot on this machine showed, which is tried once for
/// each kernel and remembered.
///
/// # Errors
/// When `CXL_LAB_ACCEL` is neither `kvm` nor `tcg`, or the answer cannot be kept.
pub fn choose(lab: &Lab) -> Result<Accelerator> {
    match std::env::var("CXL_LAB_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accelerator::Kvm),
        Ok("tcg") => return Ok(Accelerator::Tcg),
        Ok(other) => {
            return Err(Error::Host {
                what: format!("CXL_LAB_ACCEL is '{other}'"),
                remedy: "set it to kvm or tcg, or not at all".into(),
            });
        }
        Err(_) => {}
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
    let key = cache::key([host.as_str(), model, lab.tree().key()]);
    let fact = lab.cache().path(KIND, &format!("kvm-{key}"));
    if let Ok(fact) = fs::read_to_string(&fact) {
        return Ok(if fact == "works" {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        });
    }
    let works = lab.events().step("try a boot under KVM", |_| {
        lab.boots_under(Accelerator::Kvm, catalogue::find("one")?, PROBE)
    })?;
    if !works {
        lab.events().notice(
            "KVM does not run this kernel here: guests are translated (TCG), several times slower",
        );
    }
    let folder = lab.cache().root().join(KIND);
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    fs::write(&fact, if works { "works" } else { "fails" }).map_err(Error::file("write", &fact))?;
    Ok(if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}
