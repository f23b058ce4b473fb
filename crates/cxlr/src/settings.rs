// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of the whole system that change for a moment, and are put back whatever happens.
//!
//! A process can be killed at any moment. So what a setting was is noted before it is changed, where the next cxlr finds
//! it.

use std::path::Path;
use std::path::PathBuf;

use cxl_sysfs::Tree;
use cxl_sysfs::tree::optional;

use crate::problem::Cause;
use crate::transaction::Trouble;

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    path: PathBuf,
    before: String,
    meanwhile: String,
}

impl Held {
    /// A line of the note: values of settings are words.
    fn line(&self) -> String {
        let path = self.path.display();
        format!("{path} {} {}\n", self.before, self.meanwhile)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            path: words.next()?.into(),
            before: words.next()?.to_owned(),
            meanwhile: words.next()?.to_owned(),
        })
    }
}

/// What is held, the last one last.
fn noted(tree: &dyn Tree) -> cxl_sysfs::Result<Vec<Held>> {
    let note = tree.note()?.unwrap_or_default();
    Ok(note.lines().filter_map(Held::parse).collect())
}

fn note(tree: &dyn Tree, held: &[Held]) -> cxl_sysfs::Result<()> {
    let lines: String = held.iter().map(Held::line).collect();
    tree.leave_note(Some(lines.as_str()).filter(|lines| !lines.is_empty()))
}

/// Has an attribute at `value` while `during` runs. One that is not there holds nobody back: whose it is, is not loaded.
pub(crate) fn hold(
    tree: &dyn Tree,
    path: &Path,
    value: &str,
    during: impl FnOnce() -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let Some(before) = optional(tree.read(path))? else {
        return during();
    };
    let before = before.trim().to_owned();
    if before == value {
        return during();
    }
    let mut held = noted(tree)?;
    held.push(Held {
        path: path.to_owned(),
        before: before.clone(),
        meanwhile: value.to_owned(),
    });
    note(tree, &held)?;
    let result = tree
        .write(path, value)
        .map_err(Trouble::from)
        .and_then(|()| {
            let result = during();
            let Err(error) = tree.write(path, &before) else {
                return result;
            };
            let left = format!("echo {before} > {} ({error})", path.display());
            let mut trouble = result.err().unwrap_or_else(|| Cause::Kernel(error).into());
            trouble.left.push(left);
            Err(trouble)
        });
    // What is not put back now is put back by the next cxlr.
    if tree.read(path)?.trim() == before {
        held.pop();
        note(tree, &held)?;
    }
    result
}

/// Puts back what a cxlr that was killed had changed. To be called under the lock: whoever holds a setting has it.
///
/// A setting that somebody else has changed since, or that is gone, is left alone.
///
/// # Errors
/// When the note cannot be read, or the kernel refuses a setting, which stays noted.
pub fn put_back(tree: &dyn Tree) -> cxl_sysfs::Result<()> {
    let mut held = noted(tree)?;
    while let Some(Held {
        path,
        before,
        meanwhile,
    }) = held.last().cloned()
    {
        let now = optional(tree.read(&path))?;
        if now.is_some_and(|now| now.trim() == meanwhile) {
            tree.write(&path, &before)?;
            tracing::warn!(
                "{} is {before} again: a cxlr was killed while it held it at {meanwhile}",
                path.display()
            );
        }
        held.pop();
        note(tree, &held)?;
    }
    Ok(())
}
