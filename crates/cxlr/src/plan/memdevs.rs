// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which memdevs the user means.

use cxl_sysfs::Snapshot;
use cxl_sysfs::memdev::Memdev;
use cxl_sysfs::text;

use crate::problem::Refusal;

/// The memdevs behind what the user wrote, in the user's order.
///
/// `mem0` and `0` name it by number, `serial:0x100`, `serial:256` and `0x100` by serial, `0000:0d:00.0` by PCI function.
///
/// # Errors
/// When a name fits no memdev or several, when a memdev is named twice, or when it is disabled.
pub fn find<'a>(snapshot: &'a Snapshot, names: &[String]) -> Result<Vec<&'a Memdev>, Refusal> {
    let mut found: Vec<&Memdev> = Vec::new();
    for name in names
        .iter()
        .flat_map(|names| names.split([',', ' ']))
        .filter(|name| !name.is_empty())
    {
        let memdev = one(snapshot, name)?;
        if found.iter().any(|other| other.name == memdev.name) {
            return Err(Refusal::new(
                format!("{} is named twice", memdev.name),
                "a memdev stands at one position of a region",
                "name each memdev once",
            ));
        }
        if !memdev.enabled || snapshot.endpoint_of(&memdev.name).is_none() {
            return Err(Refusal::new(
                format!("{} is disabled", memdev.name),
                "only a memdev that the cxl_mem driver holds, with all ports above it found, can be in a region",
                format!(
                    "enable it (cxl enable-memdev {}) and look at the kernel's log if that fails",
                    memdev.name
                ),
            ));
        }
        found.push(memdev);
    }
    Ok(found)
}

fn one<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Memdev, Refusal> {
    let matching: Vec<&Memdev> = snapshot
        .memdevs
        .iter()
        .filter(|memdev| is(memdev, name))
        .collect();
    match matching[..] {
        [memdev] => Ok(memdev),
        [] => Err(Refusal::new(
            format!("there is no memdev {name}"),
            "a memdev is named by number (mem0), by serial (serial:0x100 or 0x100) or by PCI function (0000:0d:00.0)",
            format!("choose one of these: {}", known(snapshot)),
        )),
        _ => Err(Refusal::new(
            format!("{name} is the serial of {} memdevs", matching.len()),
            "serials are unique, but these devices' are not",
            format!("name it by number or PCI function: {}", known(snapshot)),
        )),
    }
}

fn is(memdev: &Memdev, name: &str) -> bool {
    if let Some(serial) = name.strip_prefix("serial:") {
        return text::number(serial) == Some(memdev.serial);
    }
    if name.starts_with("0x") {
        return text::number(name) == Some(memdev.serial);
    }
    memdev.name == name
        || memdev.host.as_deref() == Some(name)
        || text::id(&memdev.name, "mem") == text::id(name, "")
}

fn known(snapshot: &Snapshot) -> String {
    if snapshot.memdevs.is_empty() {
        return "none, this machine shows no CXL memory (are cxl_acpi, cxl_pci and cxl_mem loaded?)".to_owned();
    }
    let describe = |memdev: &Memdev| {
        format!(
            "{} (serial {:#x}, {})",
            memdev.name,
            memdev.serial,
            memdev.host.as_deref().unwrap_or("no PCI function")
        )
    };
    snapshot
        .memdevs
        .iter()
        .map(describe)
        .collect::<Vec<_>>()
        .join(", ")
}
