// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tests of our modules have in common.
//!
//! Regions are committed with `cxlr … --driver none`; what the test is about, binding and policy, is written to sysfs as a
//! person would.

use std::env;

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Result;
use lab::topology::catalogue;

/// The folder of devices on the CXL bus.
pub const CXL: &str = "/sys/bus/cxl/devices";
/// The folder of drivers on the CXL bus.
pub const DRIVERS: &str = "/sys/bus/cxl/drivers";
/// The folder of memory blocks.
pub const MEMORY: &str = "/sys/devices/system/memory";

/// A guest of this topology with our modules loaded.
pub fn loaded(topology: &str) -> Boot {
    Boot::new(catalogue::find(topology).expect("it is in the catalogue")).modules(Install::Loaded)
}

/// The same, where added memory may hold its own memory map, and where the kernel chooses the movable zone for it.
pub fn own_map(topology: &str) -> Boot {
    loaded(topology).append("memory_hotplug.memmap_on_memory=1 movable_node")
}

/// Fails with `sentence` unless `condition` holds.
pub fn ensure(condition: bool, sentence: impl Into<String>) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(Error::test(sentence))
    }
}

/// The size of a memory block in bytes.
pub fn block_size(guest: &Guest) -> Result<u64> {
    let text = guest.read(&format!("{MEMORY}/block_size_bytes"))?;
    u64::from_str_radix(&text, 16)
        .map_err(|_| Error::test(format!("the size of a memory block is '{text}'")))
}

/// All memory of the system, in KiB.
pub fn total_memory(guest: &Guest) -> Result<u64> {
    let text = guest.read("/proc/meminfo")?;
    let total = text.strip_prefix("MemTotal:").unwrap_or_default();
    let number = total.split_whitespace().next().map(str::parse);
    match number {
        Some(Ok(number)) => Ok(number),
        _ => Err(Error::test(format!("/proc/meminfo begins with '{total}'"))),
    }
}

/// How the system brings new memory online by itself: `offline`, `online`, `online_kernel` or `online_movable`.
pub fn set_default(guest: &Guest, online_type: &str) -> Result<()> {
    guest.write(&format!("{MEMORY}/auto_online_blocks"), online_type)
}

/// The default of Debian's kernel, which every shared guest has at the start of a test.
pub const DEBIAN_DEFAULT: &str = "online";

/// The file with the state of a memory block.
pub fn block_file(block: u64) -> String {
    format!("{MEMORY}/memory{block}/state")
}

/// What each of these memory blocks is: `absent`, `offline` or `online`.
pub fn block_states(guest: &Guest, blocks: &[u64]) -> Result<Vec<String>> {
    let files: Vec<String> = blocks.iter().copied().map(block_file).collect();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let mut seen = guest.look(&names)?;
    let state = |file: &String| seen.remove(file).flatten();
    let states = files.iter().map(state);
    Ok(states
        .map(|state| state.unwrap_or_else(|| "absent".to_owned()))
        .collect())
}

/// A number from the environment, by which a test can be made longer or be repeated.
pub fn number(name: &str, default: u64) -> Result<u64> {
    env::var(name).map_or(Ok(default), |text| {
        text.parse()
            .map_err(|_| Error::test(format!("{name} is '{text}', and not a number")))
    })
}

/// The kernel's log from some moment on.
pub struct Log<'g> {
    guest: &'g Guest,
    from: usize,
}

impl<'g> Log<'g> {
    /// From now on.
    pub fn from_now(guest: &'g Guest) -> Result<Self> {
        let from = guest.kernel_log()?.len();
        Ok(Self { guest, from })
    }

    /// Fails unless one line has all of these words in it.
    pub fn assert_line(&self, words: &[&str]) -> Result<()> {
        let log = self.guest.kernel_log()?;
        let new = log.get(self.from..).unwrap_or_default();
        let found = new
            .iter()
            .any(|record| words.iter().all(|word| record.text.contains(word)));
        ensure(
            found,
            format!("no line of the kernel's log has all of {words:?}"),
        )
    }

    /// Fails if a line has this text in it.
    pub fn assert_none(&self, text: &str) -> Result<()> {
        let log = self.guest.kernel_log()?;
        let new = log.get(self.from..).unwrap_or_default();
        match new.iter().find(|record| record.text.contains(text)) {
            None => Ok(()),
            Some(record) => Err(Error::test(format!("the kernel logged '{}'", record.text))),
        }
    }

    /// Waits for a line with this text.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        self.guest.wait_for_log(self.from, text)
    }
}

/// A region of a guest.
pub struct Region<'g> {
    guest: &'g Guest,
    number: u32,
}

impl<'g> Region<'g> {
    /// Commits a RAM region over memdevs, given as `cxlr` takes them, and leaves it without a driver.
    pub fn committed(guest: &'g Guest, arguments: &str) -> Result<Self> {
        let created = guest.sh_ok(&format!(
            "cxlr --json create-region -t ram --driver none {arguments}"
        ))?;
        let name = created
            .split("\"region\"")
            .nth(1)
            .and_then(|rest| rest.split('"').nth(1))
            .ok_or_else(|| Error::test(format!("cxlr names no region:\n{created}")))?;
        Self::named(guest, name)
    }

    /// A region that is there already.
    pub fn named(guest: &'g Guest, name: &str) -> Result<Self> {
        let number = name
            .strip_prefix("region")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| Error::test(format!("'{name}' is no region's name")))?;
        Ok(Self { guest, number })
    }

    /// The same, bound to both drivers under a policy.
    pub fn sysram(guest: &'g Guest, arguments: &str, policy: &str) -> Result<Self> {
        let region = Self::committed(guest, arguments)?;
        region.bind("cxl_sysram_region")?;
        guest.write(&region.online_type(), policy)?;
        region.bind_kmem()?;
        Ok(region)
    }

    /// The same, bound to the stock driver; its memory is with kmem.
    pub fn stock(guest: &'g Guest, arguments: &str) -> Result<Self> {
        let region = Self::committed(guest, arguments)?;
        region.bind("cxl_region")?;
        let state = format!("{}/state", region.dax_on_bus());
        guest.wait_for("the region's dax device is bound to kmem", || {
            Ok(guest.read(&state).is_ok())
        })?;
        Ok(region)
    }

    /// `regionN`.
    pub fn name(&self) -> String {
        format!("region{}", self.number)
    }

    /// Its folder.
    pub fn path(&self) -> String {
        format!("{CXL}/{}", self.name())
    }

    /// The file with its policy.
    pub fn online_type(&self) -> String {
        format!("{}/sysram_region{}/online_type", self.path(), self.number)
    }

    /// The folder of its dax device.
    pub fn dax(&self) -> String {
        let number = self.number;
        format!(
            "{}/sysram_region{number}/dax_region{number}/dax{number}.0",
            self.path()
        )
    }

    /// The same folder as the dax bus shows it, whoever made the device.
    pub fn dax_on_bus(&self) -> String {
        format!("/sys/bus/dax/devices/dax{}.0", self.number)
    }

    /// The name of its dax device, below `sysram_regionN`.
    pub fn dax_name(&self) -> String {
        format!("dax{}.0", self.number)
    }

    /// The file with the state of its dax device.
    pub fn state(&self) -> String {
        format!("{}/state", self.dax())
    }

    /// The other spelling of it.
    pub fn hotplug(&self) -> String {
        format!("{}/hotplug", self.dax())
    }

    /// Names the region in the driver's `bind` file.
    pub fn bind(&self, driver: &str) -> Result<()> {
        self.guest
            .write(&format!("{DRIVERS}/{driver}/bind"), &self.name())
    }

    /// Names the region in the driver's `unbind` file.
    pub fn unbind(&self, driver: &str) -> Result<()> {
        self.guest
            .write(&format!("{DRIVERS}/{driver}/unbind"), &self.name())
    }

    /// Names its `sysram_regionN` in the `bind` file of the driver that hands it to kmem.
    pub fn bind_kmem(&self) -> Result<()> {
        self.guest.write(
            &format!("{DRIVERS}/cxl_dax_kmem_region/bind"),
            &format!("sysram_region{}", self.number),
        )
    }

    /// Names its `sysram_regionN` in the `unbind` file of that driver.
    pub fn unbind_kmem(&self) -> Result<()> {
        self.guest.write(
            &format!("{DRIVERS}/cxl_dax_kmem_region/unbind"),
            &format!("sysram_region{}", self.number),
        )
    }

    /// The numbers of its memory blocks, ascending, whether they are there or not.
    pub fn blocks(&self) -> Result<Vec<u64>> {
        let region = self.path();
        let files = [
            format!("{region}/resource"),
            format!("{region}/size"),
            format!("{MEMORY}/block_size_bytes"),
        ];
        let seen = self.guest.look(&files.each_ref().map(String::as_str))?;
        let number = |file: &String| -> Result<u64> {
            let text = seen.get(file).cloned().flatten().unwrap_or_default();
            u64::from_str_radix(text.trim_start_matches("0x"), 16)
                .map_err(|_| Error::test(format!("{file} reads '{text}'")))
        };
        let [start, size, block] = files.each_ref().map(number);
        let (start, size, block) = (start?, size?, block?);
        Ok((start.div_ceil(block)..(start + size) / block).collect())
    }

    /// What each of its memory blocks is: `absent`, `offline`, or the zone that it is online in.
    pub fn zones(&self) -> Result<Vec<String>> {
        let blocks = self.blocks()?;
        // The state before the zone.
        let files: Vec<String> = ["state", "valid_zones"]
            .into_iter()
            .flat_map(|file| {
                let blocks = blocks.iter();
                blocks.map(move |block| format!("{MEMORY}/memory{block}/{file}"))
            })
            .collect();
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        let seen = self.guest.look(&names)?;
        let zone = |block: &u64| {
            let value = |file: &str| seen.get(&format!("{MEMORY}/memory{block}/{file}"))?.clone();
            match value("state") {
                Some(state) if state == "online" => value("valid_zones"),
                state => state,
            }
        };
        Ok(blocks
            .iter()
            .map(|block| zone(block).unwrap_or_else(|| "absent".to_owned()))
            .collect())
    }

    /// Fails unless every block is what is asked for, as [`Self::zones`] names it.
    pub fn assert_all(&self, wanted: &str) -> Result<()> {
        let zones = self.zones()?;
        if !zones.is_empty() && zones.iter().all(|zone| zone == wanted) {
            return Ok(());
        }
        Err(Error::test(format!(
            "not all blocks of {} are '{wanted}': {zones:?}",
            self.name()
        )))
    }

    /// Unbinds and deletes it.
    pub fn destroy(self) -> Result<()> {
        self.guest
            .sh_ok(&format!("cxlr destroy-region {}", self.name()))
            .map(drop)
    }
}
