// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random walk, short enough for every run: `lab walk` goes further, and makes what fails short.

use lab::Error;
use lab::suite::Test;
use lab::walk;
use lab::walk::Walk;

use crate::support;

/// What takes about half a minute.
const STEPS: usize = 300;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "whoever does whatever in whatever order, every promise is kept",
            support::loaded(walk::TOPOLOGY),
            |guest| {
                let walk = Walk::from_environment(1, STEPS);
                for script in walk.legs().take(1) {
                    if let Some(fall) = walk::play(guest, walk.ways, &script)? {
                        return Err(Error::test(format!(
                            "step {}: {}\n{}\n'cargo run -p lab -- walk --seed {} --steps {}' makes it short",
                            fall.step, fall.promise, fall.evidence, walk.seed, walk.steps
                        )));
                    }
                }
                Ok(())
            },
        )
        .last(),
    ]
}
