// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same steps on the stock kernel and on ours, one beside the other.

use std::fmt;
use std::time::Duration;
use std::time::Instant;

use lab::Error;
use lab::Guest;
use lab::Result;

use super::census::Census;
use super::stage::Side;
use super::stage::Stage;
use super::tour;

/// Whoever wants all memory online at once writes this rule.
const RULE: &str =
    r#"ACTION=="add", SUBSYSTEM=="memory", ATTR{state}=="offline", ATTR{state}="online""#;

/// Where it is written to.
const RULE_FILE: &str = "/etc/udev/rules.d/40-online.rules";

/// The kernel's default for new memory.
const DEFAULT: &str = "/sys/devices/system/memory/auto_online_blocks";

/// Plays three situations in which the wish is the same: all of a region's memory, movable.
pub fn play(stage: &mut Stage, stock: &Guest, ours: &Guest) -> Result<()> {
    let stock = Side {
        guest: stock,
        prompt: "stock #",
    };
    let ours = Side {
        guest: ours,
        prompt: "ours #",
    };
    let total = tour::memory_total(ours.guest)?;
    stage.chapter("The same wish on a stock kernel, and on ours");
    stage.say("A second guest has the same kernel and the same hardware, and none of our modules. The wish in both: all\nmemory of a region movable, to be taken away again.");
    stage.run(ours, "modprobe cxl_regions")?.success()?;
    let regions = [
        plainly(stage, stock, ours)?,
        with_udev(stage, stock, ours)?,
        with_a_bad_block(stage, stock, ours)?,
    ];
    let take = stage
        .run(ours, &format!("cxlr destroy-region {}", regions.join(" ")))?
        .success()?;
    stage.run(ours, "modprobe -r cxl_regions kmem")?.success()?;
    tour::clean(
        stage,
        ours.guest,
        "taken down without a trace, after all that",
        total,
        &take,
    )
}

/// The system default is `online`.
fn plainly(stage: &mut Stage, stock: Side<'_>, ours: Side<'_>) -> Result<String> {
    stage.say(
        "Under Debian's default the stock drivers bring the memory online before anybody can choose a zone.",
    );
    let theirs = stock_region(stage, stock, 0x100)?;
    let stock_told = blocks_and_unplug(stage, stock, &theirs.region)?;
    let made = our_region(stage, ours, 0x100)?;
    let told = blocks_and_unplug(stage, ours, &made.region)?;
    stage.compare(
        "the system default is 'online'",
        (stock_told.to_string(), theirs.took),
        (told.to_string(), made.took),
    );
    stage.promise(
        told.movable_and_gone(),
        "beside stock: movable under the default 'online'",
        told.to_string(),
        Some(made.took),
    )?;
    Ok(made.region)
}

/// The system default is `offline`, and a rule of udev's brings each block online as it appears.
fn with_udev(stage: &mut Stage, stock: Side<'_>, ours: Side<'_>) -> Result<String> {
    stage.say(
        "Now the system default is 'offline', and a udev rule brings each block online as it appears. On the stock\n\
         kernel the rule and the tool race for every block.",
    );
    for side in [stock, ours] {
        side.guest.write(DEFAULT, "offline")?;
        side.guest.write(RULE_FILE, &format!("{RULE}\n"))?;
        side.guest.sh_ok("udevadm control --reload")?;
    }
    stage.run(stock, &format!("cat {RULE_FILE}"))?.success()?;
    let theirs = stock_region(stage, stock, 0x101)?;
    let dax = &theirs.dax;
    let devdax = format!("daxctl reconfigure-device --mode=devdax --force {dax} | jq -c '.[]'");
    let system_ram = format!("daxctl reconfigure-device --mode=system-ram {dax} | jq -c '.[]'");
    stage.run(stock, &devdax)?;
    let again = stage.run(stock, &system_ram)?;
    stock.guest.sh_ok("udevadm settle")?;
    let stock_told = blocks_and_unplug(stage, stock, &theirs.region)?;
    let made = our_region(stage, ours, 0x101)?;
    let told = blocks_and_unplug(stage, ours, &made.region)?;
    stage.compare(
        "a udev rule brings each block online",
        (stock_told.to_string(), again.took),
        (told.to_string(), made.took),
    );
    stage.promise(
        told.movable_and_gone(),
        "beside stock: movable against a udev rule",
        told.to_string(),
        Some(made.took),
    )?;
    for side in [stock, ours] {
        side.guest.sh_ok(&format!(
            "rm {RULE_FILE} && udevadm control --reload && udevadm settle"
        ))?;
    }
    Ok(made.region)
}

/// One block in the middle cannot come online.
fn with_a_bad_block(stage: &mut Stage, stock: Side<'_>, ours: Side<'_>) -> Result<String> {
    stage.say(
        "Last, one block in the middle of the region refuses to come online (a module of the lab sees to that). Both\n\
         guests get the same words, written to the same attribute.",
    );
    let theirs = stock_region(stage, stock, 0x102)?;
    let stock_outcome = fail_and_try_again(stage, stock, &theirs)?;
    let made = our_region(stage, ours, 0x102)?;
    let outcome = fail_and_try_again(stage, ours, &made)?;
    stage.compare(
        "one block fails to come online",
        (stock_outcome.to_string(), stock_outcome.took),
        (outcome.to_string(), outcome.took),
    );
    stage.promise(
        outcome.refused && outcome.left.all("absent"),
        "beside stock: one bad block is told, and nothing is half done",
        format!("{}; {}", outcome.answer, outcome.left),
        Some(outcome.took),
    )?;
    stage.promise(
        outcome.again.all("Movable"),
        "beside stock: without the fault the same request succeeds",
        outcome.again.to_string(),
        None,
    )?;
    Ok(made.region)
}

/// A region that was made.
struct Made {
    region: String,
    dax: String,
    took: Duration,
}

/// Creates a region with Debian's tool, and waits for what the kernel makes of it.
fn stock_region(stage: &mut Stage, side: Side<'_>, serial: u64) -> Result<Made> {
    let memdev = memdev(side.guest, serial)?;
    let started = Instant::now();
    stage
        .run(
            side,
            &format!(
                "cxl create-region -t ram -d decoder0.0 -m {memdev} | jq -c '{{region, size}}'"
            ),
        )?
        .success()?;
    let region = newest_region(side.guest)?;
    let dax = wait_for_dax(side.guest, &region)?;
    Ok(Made {
        region,
        dax,
        took: started.elapsed(),
    })
}

fn our_region(stage: &mut Stage, side: Side<'_>, serial: u64) -> Result<Made> {
    let take = stage
        .run(
            side,
            &format!("cxlr create-region -t ram --online-type online_movable serial:{serial:#x}"),
        )?
        .success()?;
    let region = tour::created(&take)?;
    Ok(Made {
        dax: wait_for_dax(side.guest, &region)?,
        region,
        took: take.took,
    })
}

/// What the blocks of a region were, and what became of the wish to unplug them.
struct Told {
    blocks: Census,
    unplug: String,
    after: Census,
}

impl Told {
    /// The wish was granted.
    fn movable_and_gone(&self) -> bool {
        self.blocks.all("Movable") && self.after.all("absent")
    }
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; unplug: {}", self.blocks, self.unplug)
    }
}

/// Shows what the blocks of a region are, and asks for all of it to go.
fn blocks_and_unplug(stage: &mut Stage, side: Side<'_>, region: &str) -> Result<Told> {
    let blocks = show_blocks(stage, side, region)?;
    let dax = dax(side.guest, region)?;
    let take = stage.run(
        side,
        &format!("echo unplugged > /sys/bus/dax/devices/{dax}/state"),
    )?;
    side.guest.sh_ok("udevadm settle")?;
    let after = Census::of(side.guest, region)?;
    let unplug = if take.output.succeeded() {
        after.to_string()
    } else {
        tour::last_line(&take)
    };
    Ok(Told {
        blocks,
        unplug,
        after,
    })
}

/// What a failing block led to.
struct Outcome {
    refused: bool,
    answer: String,
    left: Census,
    again: Census,
    took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}; again, without the fault: {}",
            self.answer, self.left, self.again
        )
    }
}

fn fail_and_try_again(stage: &mut Stage, side: Side<'_>, made: &Made) -> Result<Outcome> {
    let region = &made.region;
    let attribute = format!("/sys/bus/dax/devices/{}/state", made.dax);
    side.guest.write(&attribute, "unplugged")?;
    let block = u64::from_str_radix(
        &side
            .guest
            .read("/sys/devices/system/memory/block_size_bytes")?,
        16,
    )
    .map_err(|error| Error::test(format!("the size of a memory block: {error}")))?;
    let bad = tour::resource(side.guest, region)? + 3 * block;
    stage
        .run(
            side,
            &format!("insmod /copy/{} refuse_online={bad:#x}", super::FAULT),
        )?
        .success()?;
    let write = format!("echo online_movable > {attribute}");
    let first = stage.run(side, &write)?;
    let told = stage.run(side, &format!("cat {attribute}"))?;
    let left = show_blocks(stage, side, region)?;
    if !first.output.succeeded() {
        stage.run(side, "dmesg | tail -n 1")?.success()?;
    }
    stage.run(side, "rmmod memory_fault")?.success()?;
    stage.run(side, &write)?;
    let again = show_blocks(stage, side, region)?;
    let refused = !first.output.succeeded();
    let answer = if refused {
        tour::last_line(&first)
    } else {
        format!("success, state reads {}", told.output.stdout.trim())
    };
    Ok(Outcome {
        refused,
        answer,
        left,
        again,
        took: first.took,
    })
}

/// Shows what the blocks of a region are, and counts them.
fn show_blocks(stage: &Stage, side: Side<'_>, region: &str) -> Result<Census> {
    let census = Census::of(side.guest, region)?;
    stage
        .run(
            side,
            "lsmem --summary=never -o RANGE,SIZE,STATE,BLOCK,ZONES",
        )?
        .success()?;
    Ok(census)
}

/// The kernel's own numbers change between boots; serial numbers do not.
fn memdev(guest: &Guest, serial: u64) -> Result<String> {
    let name = guest.sh_ok(&format!(
        "cxl list -M | jq -r '.[] | select(.serial == {serial}).memdev'"
    ))?;
    Ok(name.trim().to_owned())
}

fn newest_region(guest: &Guest) -> Result<String> {
    let name = guest.sh_ok("cd /sys/bus/cxl/devices && ls -v -d region* | tail -1")?;
    Ok(name.trim().to_owned())
}

/// The dax device of a region; empty while there is none.
fn dax(guest: &Guest, region: &str) -> Result<String> {
    let name = guest.sh_ok(&format!(
        "find /sys/bus/cxl/devices/{region}/ -maxdepth 4 -name 'dax*.*' -type d -printf '%f'"
    ))?;
    Ok(name.trim().to_owned())
}

/// Waits until kmem has taken a region's dax device. The attribute appears when it has.
fn wait_for_dax(guest: &Guest, region: &str) -> Result<String> {
    let mut name = String::new();
    guest.wait_for("kmem has taken the region's dax device", || {
        name = dax(guest, region)?;
        let state = format!("/sys/bus/dax/devices/{name}/state");
        Ok(!name.is_empty() && guest.run(&["test", "-e", &state])?.succeeded())
    })?;
    guest.sh_ok("udevadm settle")?;
    Ok(name)
}
