// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests on the real kernel, one file for each subject.

mod agent;
mod attributes;
mod capacity_in_use;
mod capacity_walk;
mod crowd;
mod cxlr;
mod cycles;
mod data;
mod descriptors;
mod devdax;
mod dynamic_capacity;
mod every_file;
mod fabric;
mod fault;
mod firmware;
mod forged;
mod hmem;
mod injection;
mod kmem;
mod machine_check;
mod performance;
mod pin;
mod poison;
mod policy;
mod ranges;
mod regions;
mod selftests;
mod stock;
mod support;
mod teardown;
mod tools;
mod transitions;
mod udev;
mod walk;
mod ways;
mod witness;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        agent::tests(),
        attributes::tests(),
        capacity_in_use::tests(),
        capacity_walk::tests(),
        crowd::tests(),
        cxlr::tests(),
        cycles::tests(),
        descriptors::tests(),
        devdax::tests(),
        dynamic_capacity::tests(),
        every_file::tests(),
        fabric::tests(),
        firmware::tests(),
        forged::tests(),
        hmem::tests(),
        injection::tests(),
        kmem::tests(),
        machine_check::tests(),
        performance::tests(),
        poison::tests(),
        policy::tests(),
        ranges::tests(),
        regions::tests(),
        selftests::tests(),
        stock::tests(),
        teardown::tests(),
        tools::tests(),
        transitions::tests(),
        walk::tests(),
    ];
    lab::suite::run(tests.into_iter().flatten().collect())
}
