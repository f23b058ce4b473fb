// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a whole device takes to come online and to go, through `daxX.Y/state`.

use lab::Error;
use lab::Guest;
use lab::Lab;
use lab::Result;
use lab::topology::GIB;
use lab::topology::Topology;

use super::ROUNDS;
use super::pair;
use super::pair::Versus;
use super::report::Device;
use super::report::Summary;

const STATE: &str = "/sys/bus/dax/devices/dax0.0/state";

/// How often a device of this size is measured: rounds, and repetitions in each. What takes milliseconds has to be seen
/// more often than what takes minutes.
fn effort(bytes: u64, repetitions: usize) -> (usize, usize) {
    match bytes / GIB {
        0..=1 => (ROUNDS, repetitions * 4),
        2..256 => (ROUNDS, repetitions),
        _ => (1, 1),
    }
}

/// Measures the one device of a topology. The first repetition of each round does not count.
///
/// # Errors
/// When memory did not come or go as it was asked to.
pub fn measure(lab: &Lab, topology: &Topology, repetitions: usize) -> Result<Device> {
    let bytes: u64 = topology
        .memory_devices()
        .filter_map(|device| device.volatile)
        .sum();
    let (rounds, repetitions) = effort(bytes, repetitions);
    let (mut online, mut unplug) = (Versus::<Vec<f64>>::default(), Versus::<Vec<f64>>::default());
    for round in 0..rounds {
        let name = format!(
            "measure {} GiB, round {} of {rounds}",
            bytes / GIB,
            round + 1
        );
        lab.events().step(name, |step| -> Result<()> {
            let guests = pair::boot(lab, topology)?;
            create(&guests.stock)?;
            create(&guests.ours)?;
            for repetition in 0..=repetitions {
                let stock = plug_and_unplug(&guests.stock, bytes)?;
                let ours = plug_and_unplug(&guests.ours, bytes)?;
                step.line(&format!(
                    "{repetition} of {repetitions}: online {:.3} s stock, {:.3} s ours; unplug {:.3} s stock, {:.3} s ours",
                    stock.0, ours.0, stock.1, ours.1
                ));
                if repetition > 0 {
                    online.stock.push(stock.0);
                    online.ours.push(ours.0);
                    unplug.stock.push(stock.1);
                    unplug.ours.push(ours.1);
                }
            }
            guests.stock.poweroff()?;
            guests.ours.poweroff()
        })?;
    }
    Ok(Device {
        bytes,
        online: online.map(|samples| Summary::of(samples)),
        unplug: unplug.map(|samples| Summary::of(samples)),
    })
}

/// The same region in both guests, made by Debian's tool under the stock region driver, so that kmem alone differs.
fn create(guest: &Guest) -> Result<()> {
    guest.write("/sys/devices/system/memory/auto_online_blocks", "offline")?;
    guest.sh_ok("cxl create-region -t ram -d decoder0.0 -m mem0")?;
    guest.wait_for("kmem has taken the region's dax device", || {
        Ok(guest.run(&["test", "-e", STATE])?.succeeded())
    })?;
    // The stock driver wants memory that is offline unplugged before it comes online.
    guest.write(STATE, "unplugged")
}

/// Seconds to come online, and to go.
fn plug_and_unplug(guest: &Guest, bytes: u64) -> Result<(f64, f64)> {
    let before = pair::memory_total(guest)?;
    let online = pair::time(guest, &["write", STATE, "online_movable"])?;
    let gained = pair::memory_total(guest)? - before;
    if gained != bytes {
        return Err(Error::test(format!(
            "{gained} bytes of {bytes} came online, and the kernel reported success"
        )));
    }
    let unplug = pair::time(guest, &["write", STATE, "unplugged"])?;
    let left = pair::memory_total(guest)? - before;
    if left != 0 {
        return Err(Error::test(format!(
            "{left} bytes of {bytes} are still there, and the kernel reported success"
        )));
    }
    Ok((online, unplug))
}
