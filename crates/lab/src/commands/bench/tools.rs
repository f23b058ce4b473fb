// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the tools take, and how many system calls: `cxlr` beside Debian's `cxl`.

use lab::Error;
use lab::Guest;
use lab::Lab;
use lab::Result;
use lab::topology::catalogue;
use lab::topology::catalogue::FIRST_SERIAL;

use super::pair;
use super::pair::Versus;
use super::report::Summary;
use super::report::Tool;

/// Several devices, so that it shows what a tool does for each.
const TOPOLOGY: &str = "eight";

/// From nothing to a region whose memory is online. `cxl` returns earlier; the attribute is there when kmem is done.
const CREATE: Versus<&str> = Versus {
    stock: "cxl create-region -t ram -d decoder0.0 -m $MEMDEV 2>/dev/null; \
            until [ -e /sys/bus/dax/devices/dax0.0/state ]; do :; done",
    ours: "cxlr create-region -t ram -d decoder0.0 --online-type online_movable $MEMDEV",
};

/// And back, when the memory is unplugged.
const DESTROY: Versus<&str> = Versus {
    stock: "cxl destroy-region -f region0",
    ours: "cxlr destroy-region region0",
};

/// Measures both tools in their guests.
///
/// # Errors
/// When a tool fails.
pub fn measure(lab: &Lab, rounds: usize, repetitions: usize) -> Result<Vec<Tool>> {
    let topology = catalogue::find(TOPOLOGY)?;
    let lists = [
        ("list", ["cxl list", "cxlr list"]),
        ("list all that is known", ["cxl list -vv", "cxlr list"]),
    ];
    let mut created = Versus::<Vec<f64>>::default();
    let mut list = lists.map(|_| Versus::<Vec<f64>>::default());
    let mut calls = lists.map(|_| Versus::<u64>::default());
    for round in 0..rounds {
        let name = format!("measure the tools, round {} of {rounds}", round + 1);
        lab.events().step(name, |_| -> Result<()> {
            let guests = pair::boot(lab, &topology)?;
            for guest in [&guests.stock, &guests.ours] {
                guest.write(
                    "/sys/devices/system/memory/auto_online_blocks",
                    "online_movable",
                )?;
            }
            for repetition in 0..=repetitions {
                let stock = create_and_destroy(&guests.stock, CREATE.stock, DESTROY.stock)?;
                let ours = create_and_destroy(&guests.ours, CREATE.ours, DESTROY.ours)?;
                if repetition > 0 {
                    created.stock.push(stock);
                    created.ours.push(ours);
                }
            }
            // Both tools look at the same machine: a stock one, with one region.
            create(&guests.stock, CREATE.stock)?;
            for ((_, [stock, ours]), (list, calls)) in
                lists.iter().zip(list.iter_mut().zip(calls.iter_mut()))
            {
                for repetition in 0..=repetitions {
                    let times = Versus {
                        stock: run(&guests.stock, stock)?,
                        ours: run(&guests.stock, ours)?,
                    };
                    if repetition > 0 {
                        list.stock.push(times.stock);
                        list.ours.push(times.ours);
                    }
                }
                calls.stock = system_calls(&guests.stock, stock)?;
                calls.ours = system_calls(&guests.stock, ours)?;
            }
            guests.stock.poweroff()?;
            guests.ours.poweroff()
        })?;
    }
    let creation = Tool {
        what: "create a region of 1 GiB, until it is online".into(),
        commands: Versus {
            stock: "cxl create-region -t ram".into(),
            ours: "cxlr create-region -t ram".into(),
        },
        seconds: created.map(|samples| Summary::of(samples)),
        system_calls: None,
    };
    let listed = lists.iter().zip(list.iter().zip(calls)).map(
        |((what, [stock, ours]), (samples, calls))| Tool {
            what: (*what).into(),
            commands: Versus {
                stock: (*stock).into(),
                ours: (*ours).into(),
            },
            seconds: samples.map(|samples| Summary::of(samples)),
            system_calls: Some(calls),
        },
    );
    Ok(std::iter::once(creation).chain(listed).collect())
}

/// Seconds until the region is there and its memory online.
fn create(guest: &Guest, command: &str) -> Result<f64> {
    // The kernel's own numbers change between boots; serial numbers do not.
    let memdev = guest.sh_ok(&format!(
        "cxl list -M | jq -r '.[] | select(.serial == {FIRST_SERIAL}).memdev'"
    ))?;
    let command = command.replace("$MEMDEV", memdev.trim());
    let seconds = run(guest, &command)?;
    let state = guest.read("/sys/bus/dax/devices/dax0.0/state")?;
    if state == "online_movable" {
        Ok(seconds)
    } else {
        Err(Error::test(format!(
            "after '{command}' the memory is {state}"
        )))
    }
}

fn create_and_destroy(guest: &Guest, command: &str, destroy: &str) -> Result<f64> {
    let seconds = create(guest, command)?;
    guest.write("/sys/bus/dax/devices/dax0.0/state", "unplugged")?;
    guest.sh_ok(destroy)?;
    Ok(seconds)
}

fn run(guest: &Guest, command: &str) -> Result<f64> {
    pair::time(guest, &["run", "bash", "-c", command])
}

fn system_calls(guest: &Guest, command: &str) -> Result<u64> {
    let count = guest.sh_ok(&format!(
        "strace -f -c -U calls,name -o /tmp/calls {command} >/dev/null && awk '$2 == \"total\" {{print $1}}' /tmp/calls"
    ))?;
    count
        .trim()
        .parse()
        .map_err(|_| Error::test(format!("strace counts '{}' system calls", count.trim())))
}
