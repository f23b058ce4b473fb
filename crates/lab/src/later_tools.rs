// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's CXL tools as the next release will have them, for guests that have them in place of their own.
//!
//! They come from the suite that becomes that release, with all libraries that they want, and run on those.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::cache;
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::host;
use crate::program;
use crate::tree;

const KIND: &str = "later-tools";

/// The suite that becomes Debian's next release.
const SUITE: &str = "forky";

/// The packages, which are named as the programs in them.
const PROGRAMS: &[&str] = &["cxl", "daxctl", "ndctl"];

/// Where programs and libraries lie in a guest.
const FOLDER: &str = "opt/later-tools";

/// The dynamic linker among the libraries.
const LINKER: &str = "ld-linux-x86-64.so.2";

/// Finds the archive in the cache, or makes it.
///
/// # Errors
/// When the registry cannot be reached, or a step fails.
pub fn ensure(cache: &Cache, events: &Events) -> Result<PathBuf> {
    let key = cache::key([SUITE, &PROGRAMS.join(" "), FOLDER]);
    let entry = match cache.find(KIND, &key) {
        Some(entry) => entry,
        None => cache.lock(events)?.ensure(KIND, &key, |folder| {
            let packed = folder.join("packed.tar");
            events.step(format!("fetch the CXL tools of Debian {SUITE}"), |step| {
                let mut command = tree::mmdebstrap("extract", PROGRAMS, folder)?;
                command
                    .arg(SUITE)
                    .arg(&packed)
                    .arg(source_line(&host::mirror()?));
                program::run(step, "fetching the CXL tools (mmdebstrap)", command)
            })?;
            let archive = archive(folder);
            convert(&packed, &archive).map_err(Error::file("write", &archive))?;
            fs::remove_file(&packed).map_err(Error::file("remove", &packed))
        })?,
    };
    Ok(archive(&entry))
}

/// The list of a suite in the making is valid for a week, and a mirror may stand still for longer. What is in it is signed
/// all the same, and runs in guests alone.
fn source_line(mirror: &str) -> String {
    format!(
        "deb [signed-by={} check-valid-until=no] {mirror} {SUITE} main",
        host::KEYRING
    )
}

fn archive(entry: &Path) -> PathBuf {
    entry.join("tools.cpio")
}

/// Takes the programs and the libraries, and puts each program where a guest finds it first.
fn convert(packed: &Path, target: &Path) -> io::Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(target)?));
    for folder in ["opt", FOLDER, "usr", "usr/local", "usr/local/bin"] {
        archive.folder(folder, 0o755)?;
    }
    let mut packed = tar::Archive::new(BufReader::new(File::open(packed)?));
    for entry in packed.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let is_in = |folder: &str| path.parent().is_some_and(|parent| parent.ends_with(folder));
        let wanted = is_in("usr/bin") && PROGRAMS.contains(&name)
            || is_in("usr/lib/x86_64-linux-gnu") && name.contains(".so");
        if !wanted {
            continue;
        }
        let place = format!("{FOLDER}/{name}");
        if let Some(link) = entry.link_name_bytes() {
            archive.symlink(&place, &link)?;
        } else {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            archive.file(&place, 0o755, &content)?;
        }
    }
    for program in PROGRAMS {
        let script = format!(
            "#!/bin/sh\nexec /{FOLDER}/{LINKER} --library-path /{FOLDER} /{FOLDER}/{program} \"$@\"\n"
        );
        archive.file(
            &format!("usr/local/bin/{program}"),
            0o755,
            script.as_bytes(),
        )?;
    }
    archive.finish()?.into_inner()?.sync_all()
}
