// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which somebody can take a region apart, and how what was lost comes back.

use lab::Error;
use lab::Guest;
use lab::Result;
use rustix::io::Errno;

use crate::support::CXL;
use crate::support::DEBIAN_DEFAULT;
use crate::support::DRIVERS;
use crate::support::Region;
use crate::support::block_file;
use crate::support::set_default;

/// The only memory device of a guest, with all that makes it one.
pub struct Hardware<'g> {
    guest: &'g Guest,
    memdev: String,
    endpoint: String,
    pci: String,
}

impl<'g> Hardware<'g> {
    /// Finds it.
    pub fn find(guest: &'g Guest) -> Result<Self> {
        let memdev = only(guest, "mem*")?;
        let function = guest.read(&format!("{CXL}/{memdev}/../uevent"))?;
        let pci = function
            .lines()
            .find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))
            .ok_or_else(|| Error::test(format!("{memdev} is on no PCI function: {function}")))?;
        Ok(Self {
            guest,
            endpoint: only(guest, "endpoint*")?,
            pci: pci.to_owned(),
            memdev,
        })
    }

    /// What resets the device, with the bus that it is on.
    pub fn reset_file(&self) -> String {
        format!("/sys/bus/pci/devices/{}/reset", self.pci)
    }

    /// Takes the memdev's driver away and gives it back, so that the core looks at its decoders anew.
    pub fn renew(&self) -> Result<()> {
        self.unbind()?;
        self.settle()?;
        self.bind()
    }

    /// Takes the memdev's driver away.
    pub fn unbind(&self) -> Result<()> {
        self.guest
            .write(&format!("{DRIVERS}/cxl_mem/unbind"), &self.memdev)
    }

    /// Gives the memdev its driver, and waits for what that brings.
    pub fn bind(&self) -> Result<()> {
        self.guest
            .write(&format!("{DRIVERS}/cxl_mem/bind"), &self.memdev)?;
        self.wait_until_whole()
    }

    /// Waits until the core has done what it put off: a memdev whose endpoint went away loses its driver some time after.
    pub fn settle(&self) -> Result<()> {
        self.guest.write("/sys/bus/cxl/flush", "1")
    }

    /// Waits until the device is whole again: with its driver and its endpoint.
    pub fn wait_until_whole(&self) -> Result<()> {
        self.guest
            .wait_for("the memory device has its driver and its endpoint", || {
                let drivers = ["mem*", "endpoint*"].map(|name| format!("{CXL}/{name}/driver"));
                let seen = self.guest.look(&drivers.each_ref().map(String::as_str))?;
                Ok(seen.len() == 2)
            })?;
        self.guest.sh_ok("udevadm settle").map(drop)
    }
}

/// The name of the only device on the CXL bus that this pattern matches.
fn only(guest: &Guest, pattern: &str) -> Result<String> {
    let seen = guest.look(&[&format!("{CXL}/{pattern}")])?;
    let mut names = seen.keys().filter_map(|path| path.rsplit('/').next());
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        _ => Err(Error::test(format!(
            "{pattern} is not one device: {seen:?}"
        ))),
    }
}

/// A region in use, and the hardware under it.
pub struct Scene<'g> {
    /// Where all this is.
    pub guest: &'g Guest,
    /// The region, bound to both of our drivers.
    pub region: Region<'g>,
    /// What is under it.
    pub hardware: Hardware<'g>,
}

type Step = fn(&Scene<'_>) -> Result<()>;

/// A way to take a region apart.
#[derive(Clone, Copy)]
pub struct Way {
    /// What somebody does, as the subject of a sentence.
    pub name: &'static str,
    /// Does it.
    pub take: Step,
    /// Brings back the devices and drivers that were lost; regions stay as they are.
    pub back: Step,
}

/// Ways that leave the region committed.
pub const BINDINGS: [Way; 4] = [
    Way {
        name: "unbinding kmem from the dax device",
        take: |scene| {
            scene
                .guest
                .write("/sys/bus/dax/drivers/kmem/unbind", &scene.region.dax_name())
        },
        back: |scene| {
            scene
                .guest
                .write("/sys/bus/dax/drivers/kmem/bind", &scene.region.dax_name())
        },
    },
    Way {
        name: "unbinding cxl_dax_kmem_region",
        take: |scene| scene.region.unbind_kmem(),
        back: |scene| scene.region.bind_kmem(),
    },
    Way {
        name: "unbinding cxl_sysram_region",
        take: |scene| scene.region.unbind("cxl_sysram_region"),
        back: |scene| {
            scene.region.bind("cxl_sysram_region")?;
            // Memory that stayed behind has its policy already.
            if scene.guest.read(&scene.region.online_type())? == "invalid" {
                scene
                    .guest
                    .write(&scene.region.online_type(), "online_movable")?;
            }
            scene.region.bind_kmem()
        },
    },
    Way {
        name: "writing 0 to commit, which is refused,",
        take: |scene| {
            let commit = format!("{}/commit", scene.region.path());
            scene.guest.write_refused(&commit, "0", Errno::PERM)
        },
        back: |_| Ok(()),
    },
];

/// Ways that take the decoders away from the region.
pub const DECODERS: [Way; 12] = [
    Way {
        name: "resetting the device, which is refused",
        take: |scene| {
            let reset = scene.hardware.reset_file();
            scene.guest.write_refused(&reset, "1", Errno::NOTTY)
        },
        back: |_| Ok(()),
    },
    Way {
        name: "detaching the region's target",
        take: |scene| {
            let target = format!("{}/target0", scene.region.path());
            scene.guest.write(&target, "\n")
        },
        // The core skips the reset of locked decoders. Those that lost their region are still programmed; the
        // core makes a region of them again when the memdev gets its driver, and that one can be destroyed.
        back: |scene| {
            let (guest, region) = (scene.guest, &scene.region);
            if guest.read(&format!("{}/locked", region.path()))? == "1" {
                return Ok(());
            }
            delete(guest, &region.name())?;
            set_default(guest, "online_movable")?;
            scene.hardware.renew()?;
            guest.sh_ok(&format!("cxlr destroy-region {}", region.name()))?;
            set_default(guest, DEBIAN_DEFAULT)
        },
    },
    Way {
        name: "deleting the region",
        take: |scene| delete(scene.guest, &scene.region.name()),
        back: |_| Ok(()),
    },
    Way {
        name: "'cxl destroy-region -f'",
        // Whether it gets there is its own affair. It takes block after block offline first; where it does not get there,
        // those come back as any block does.
        take: |scene| {
            let command = format!("cxl destroy-region -f {}", scene.region.name());
            // What applications map has no policy, and no blocks.
            let Ok(policy) = scene.guest.read(&scene.region.online_type()) else {
                return scene.guest.sh(&command).map(drop);
            };
            let blocks: Vec<String> = scene.region.blocks()?.into_iter().map(block_file).collect();
            if scene.guest.sh(&command)?.succeeded() {
                return Ok(());
            }
            scene
                .guest
                .sh_ok(&format!(
                    "for b in {}; do [[ $(< $b) = online ]] || echo {policy} > $b; done",
                    blocks.join(" ")
                ))
                .map(drop)
        },
        back: |_| Ok(()),
    },
    Way {
        name: "'cxl disable-memdev -f'",
        take: |scene| cxl(scene, "disable-memdev -f"),
        back: |scene| cxl(scene, "enable-memdev"),
    },
    Way {
        name: "unbinding cxl_mem from the memdev",
        take: |scene| scene.hardware.unbind(),
        back: |scene| scene.hardware.bind(),
    },
    Way {
        name: "unbinding cxl_port from the endpoint",
        take: |scene| {
            bus(
                scene,
                "cxl/drivers/cxl_port/unbind",
                &scene.hardware.endpoint,
            )
        },
        // The memdev goes with its endpoint, and makes it again.
        back: |scene| scene.hardware.bind(),
    },
    Way {
        name: "unbinding cxl_pci from the device",
        take: |scene| bus(scene, "pci/drivers/cxl_pci/unbind", &scene.hardware.pci),
        back: |scene| bus(scene, "pci/drivers/cxl_pci/bind", &scene.hardware.pci),
    },
    Way {
        name: "removing the PCI device",
        take: |scene| {
            let remove = format!("pci/devices/{}/remove", scene.hardware.pci);
            bus(scene, &remove, "1")
        },
        back: |scene| bus(scene, "pci/rescan", "1"),
    },
    Way {
        name: "unbinding cxl_acpi from the root",
        take: |scene| bus(scene, "platform/drivers/cxl_acpi/unbind", "ACPI0017:00"),
        back: |scene| bus(scene, "platform/drivers/cxl_acpi/bind", "ACPI0017:00"),
    },
    Way {
        name: "unloading cxl_pci",
        take: |scene| scene.guest.sh_ok("rmmod cxl_pci").map(drop),
        back: |scene| scene.guest.sh_ok("modprobe cxl_pci").map(drop),
    },
    Way {
        name: "unloading cxl_acpi",
        take: |scene| scene.guest.sh_ok("rmmod cxl_acpi").map(drop),
        back: |scene| scene.guest.sh_ok("modprobe cxl_acpi").map(drop),
    },
];

/// Deletes a region by name.
pub fn delete(guest: &Guest, region: &str) -> Result<()> {
    let decoder = guest.sh_ok(&format!("dirname $(readlink -f {CXL}/{region})"))?;
    guest.write(&format!("{}/delete_region", decoder.trim()), region)
}

/// The names of all regions.
pub fn regions(guest: &Guest) -> Result<Vec<String>> {
    let seen = guest.look(&[&format!("{CXL}/region*")])?;
    let names = seen.keys().filter_map(|path| path.rsplit('/').next());
    Ok(names.map(str::to_owned).collect())
}

fn bus(scene: &Scene<'_>, file: &str, content: &str) -> Result<()> {
    scene.guest.write(&format!("/sys/bus/{file}"), content)
}

fn cxl(scene: &Scene<'_>, command: &str) -> Result<()> {
    let command = format!("cxl {command} {}", scene.hardware.memdev);
    scene.guest.sh_ok(&command).map(drop)
}

/// The driver that a region is bound to, if it is to any.
pub fn driver(guest: &Guest, region: &str) -> Result<Option<String>> {
    let name = guest.sh_ok(&format!(
        "basename \"$(readlink {CXL}/{region}/driver)\"; true"
    ))?;
    Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty()))
}

/// Gives a region to a driver on the CXL bus, away from the one that it has.
pub fn rebind(guest: &Guest, region: &str, to: &str) -> Result<()> {
    if let Some(from) = driver(guest, region)? {
        guest.write(&format!("{DRIVERS}/{from}/unbind"), region)?;
    }
    guest.write(&format!("{DRIVERS}/{to}/bind"), region)
}
