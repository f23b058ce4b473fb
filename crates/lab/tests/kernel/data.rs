// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file whose pages lie in a region: what must not be lost.

use lab::Error;
use lab::Guest;
use lab::Result;

use crate::support::ensure;

const FOLDER: &str = "/tmp/data";
const KIBIBYTES: u64 = 4096;

/// A file in memory of a node, which has no other memory than the region's.
pub struct Data<'g> {
    guest: &'g Guest,
    sum: String,
}

impl<'g> Data<'g> {
    /// Fills a file on `node`.
    ///
    /// # Errors
    /// Also when its pages lie elsewhere: then it would prove nothing.
    pub fn put(guest: &'g Guest, node: u32) -> Result<Self> {
        guest.sh_ok(&format!(
            "set -e; mkdir -p {FOLDER}; mount -t tmpfs -o mpol=bind:{node} none {FOLDER}; \
             head -c {KIBIBYTES}K /dev/urandom > {FOLDER}/file"
        ))?;
        // The kernel counts on each processor for itself, and sums up now and then: or now.
        guest.write("/proc/sys/vm/stat_refresh", "1")?;
        let counts = guest.read(&format!("/sys/devices/system/node/node{node}/meminfo"))?;
        let there = counts
            .lines()
            .find_map(|line| line.split_once("Shmem:"))
            .and_then(|(_, count)| count.split_whitespace().next()?.parse::<u64>().ok())
            .ok_or_else(|| Error::test(format!("node {node} has no shared memory: {counts}")))?;
        ensure(
            there >= KIBIBYTES,
            format!("node {node} has {there} KiB of the file's {KIBIBYTES}"),
        )?;
        let sum = sum(guest)?;
        Ok(Self { guest, sum })
    }

    /// Fails unless every byte still is what it was.
    pub fn assert_intact(&self) -> Result<()> {
        ensure(
            sum(self.guest)? == self.sum,
            "the file's bytes are not what they were",
        )
    }

    /// Removes the file.
    pub fn remove(self) -> Result<()> {
        self.guest.sh_ok(&format!("umount {FOLDER}")).map(drop)
    }
}

fn sum(guest: &Guest) -> Result<String> {
    guest.sh_ok(&format!("sha256sum {FOLDER}/file"))
}
