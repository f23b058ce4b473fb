// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab demo`: the main job as a narrated tour on the real kernel, and the same steps on a stock kernel beside it.
//!
//! Everything that is shown is what the guests answered in this run. What the project promises is checked by counting in
//! the guest, without the tool that is shown; a promise that does not hold ends the demo with evidence.

mod beside;
mod census;
mod stage;
mod tour;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lab::Boot;
use lab::Guest;
use lab::Install;
use lab::Lab;
use lab::Result;
use lab::kernel_log;
use lab::modules::Modules;
use lab::topology::catalogue;

use stage::Stage;

/// Four devices: two for the first region, one for the second, two for what is tried beside the stock kernel.
const TOPOLOGY: &str = "four";

/// The module that refuses one chosen memory block, for a look at what a failure leaves.
const FAULT: &str = "memory_fault.ko";

/// Runs the demo.
///
/// # Errors
/// When the lab fails. A promise that does not hold is no error of the lab: it is the exit status 1.
pub fn run(lab: &Lab, started: Instant, json: bool) -> Result<ExitCode> {
    let mut stage = Stage::new(json, lab.events());
    let ready = started.elapsed();
    let boot_started = Instant::now();
    let (ours, stock) = boot_both(lab)?;
    let booted = boot_started.elapsed();
    let log = ours.kernel_log()?.len();
    let played = play(&mut stage, lab, &ours, &stock);
    let evidence = match &played {
        Ok(()) => None,
        Err(error) => Some(format!("{error}\n{}", evidence(&ours, log))),
    };
    stage.finish(
        &[
            ("make the lab, modules and tool", ready),
            ("boot two guests side by side", booted),
            ("from start to end", started.elapsed()),
        ],
        evidence.as_deref(),
    );
    // Both at once: a guest takes a moment to go.
    thread::scope(|scope| {
        let stock = scope.spawn(|| stock.poweroff());
        ours.poweroff().and(join(stock))
    })?;
    Ok(if evidence.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn play(stage: &mut Stage, lab: &Lab, ours: &Guest, stock: &Guest) -> Result<()> {
    tour::play(stage, lab.tree().release(), ours)?;
    beside::play(stage, stock, ours)?;
    ours.assert_clean_log(0)?;
    stage.promise(
        true,
        "no warning in the kernel's log, from boot to end",
        "none",
        None,
    )
}

/// A guest with our modules installed and one without, on the same hardware.
fn boot_both(lab: &Lab) -> Result<(Guest, Guest)> {
    let boot = |install: Install| -> Result<Guest> {
        let mut boot = Boot::new(catalogue::find(TOPOLOGY)?).modules(install);
        for file in lab.modules().map_or(Ok(Vec::new()), Modules::files)? {
            if file.file_name() == Some(Path::new(FAULT).as_os_str()) {
                boot = boot.copy(file);
            }
        }
        lab.boot(boot)
    };
    thread::scope(|scope| {
        let stock = scope.spawn(|| boot(Install::Stock));
        let ours = boot(Install::Installed);
        Ok((ours?, join(stock)?))
    })
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What a reader wants to see when a promise does not hold: what the kernel logged since `from`, and the state.
fn evidence(guest: &Guest, from: usize) -> String {
    let (Ok(log), Ok(state)) = (guest.kernel_log(), guest.sh("cxlr list 2>&1")) else {
        return "the guest no longer answers".into();
    };
    let log: Vec<String> = log.iter().skip(from).map(kernel_log::line).collect();
    format!(
        "--- the kernel's log ---\n{}\n--- cxlr list ---\n{}",
        log.join("\n"),
        state.stdout
    )
}
