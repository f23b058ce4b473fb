// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a distribution or an administrator may have told udev to do with new memory.

use lab::Guest;
use lab::Result;

use crate::support::Region;
use crate::support::ensure;

/// A udev rule that writes to the state of each memory block the moment it appears.
pub struct Rule<'g>(&'g Guest);

impl<'g> Rule<'g> {
    /// Installs it.
    pub fn install(guest: &'g Guest, online_type: &str) -> Result<Self> {
        // What has run tells so: that it found nothing to do must not be for want of running. The daemon answers when
        // it has read the rules.
        let rule = format!(
            r#"ACTION=="add", SUBSYSTEM=="memory", ATTR{{state}}="{online_type}", RUN+="/usr/bin/touch /run/rule-ran/%k""#
        );
        guest.sh_ok(&format!(
            "mkdir -p /run/udev/rules.d /run/rule-ran && echo '{rule}' > /run/udev/rules.d/50-hostile.rules && \
             udevadm control --reload && udevadm control --ping"
        ))?;
        Ok(Self(guest))
    }

    /// Fails unless it ran for each block of the region; the record starts anew.
    pub fn assert_ran_for(&self, region: &Region<'_>) -> Result<()> {
        let records = self.0.look(&["/run/rule-ran/*"])?;
        for block in region.blocks()? {
            ensure(
                records.contains_key(&format!("/run/rule-ran/memory{block}")),
                format!("the rule did not run for memory{block}"),
            )?;
        }
        self.0.sh_ok("rm /run/rule-ran/*").map(drop)
    }

    /// Takes it away.
    pub fn remove(self) -> Result<()> {
        let script =
            "rm -r /run/udev/rules.d/50-hostile.rules /run/rule-ran && udevadm control --reload";
        self.0.sh_ok(script).map(drop)
    }
}
