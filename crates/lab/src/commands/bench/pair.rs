// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two guests of the same kind: one stock, one with our modules.

use std::thread;

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Lab;
use lab::Result;
use lab::topology::Topology;
use serde::Deserialize;
use serde::Serialize;

/// One thing for each of the two.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Versus<T> {
    /// Of the stock kernel's drivers.
    pub stock: T,
    /// Of ours.
    pub ours: T,
}

impl<T> Versus<T> {
    /// Something made of each.
    pub fn map<U>(&self, make: impl Fn(&T) -> U) -> Versus<U> {
        Versus {
            stock: make(&self.stock),
            ours: make(&self.ours),
        }
    }
}

/// Boots both side by side.
///
/// # Errors
/// When one does not get ready.
pub fn boot(lab: &Lab, topology: &Topology) -> Result<Versus<Guest>> {
    let boot = |install| lab.boot(Boot::new(topology.clone()).modules(install));
    thread::scope(|scope| {
        let stock = scope.spawn(|| boot(Install::Stock));
        let ours = boot(Install::Loaded)?;
        let stock = stock
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Versus { stock, ours })
    })
}

/// What `/init time` says, in seconds.
///
/// # Errors
/// When the step failed, or udev does not settle.
pub fn time(guest: &Guest, words: &[&str]) -> Result<f64> {
    guest.sh_ok("udevadm settle")?;
    let mut argv = vec!["/init", "time"];
    argv.extend(words);
    let nanoseconds = guest.run(&argv)?.success()?;
    nanoseconds
        .trim()
        .parse::<f64>()
        .map(|nanoseconds| nanoseconds / 1e9)
        .map_err(|_| Error::test(format!("'{}' is no time", nanoseconds.trim())))
}

/// The memory that the guest's kernel manages, in bytes.
///
/// # Errors
/// When the guest does not tell.
pub fn memory_total(guest: &Guest) -> Result<u64> {
    let text = guest.sh_ok("awk '/^MemTotal:/ {print $2}' /proc/meminfo")?;
    let kibibytes: u64 = text
        .trim()
        .parse()
        .map_err(|_| Error::test(format!("MemTotal is '{}'", text.trim())))?;
    Ok(kibibytes << 10)
}
