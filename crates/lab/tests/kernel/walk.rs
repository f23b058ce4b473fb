// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random walk, short enough for every run: `lab walk` goes further, and makes what fails short.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::suite::Test;
use lab::walk;
use lab::walk::Walk;
use lab::walk::Ways;

use crate::support;

pub fn tests() -> Vec<Test> {
    // What takes about half a minute together.
    vec![
        Test::new(
            "whoever does whatever in whatever order, every promise is kept",
            support::loaded(walk::TOPOLOGY),
            |guest| take(guest, Walk::from_environment(Ways::One, 1, 220)),
        )
        .last(),
        Test::new(
            "whoever does whatever in whatever order, every promise is kept where regions are interleaved",
            support::loaded(walk::TOPOLOGY),
            |guest| take(guest, Walk::from_environment(Ways::Two, 2, 80)),
        )
        .last(),
    ]
}

fn take(guest: &Guest, walk: Walk) -> Result<()> {
    let Some(script) = walk.legs().next() else {
        return Ok(());
    };
    match walk::play(guest, walk.ways, &script)? {
        None => Ok(()),
        Some(fall) => Err(Error::test(format!(
            "step {}: {}\n{}\n'cargo run -p lab -- walk --ways {} --seed {} --steps {}' makes it short",
            fall.step,
            fall.promise,
            fall.evidence,
            walk.ways.count(),
            walk.seed,
            walk.steps
        ))),
    }
}
