// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The engine against a model of the kernel: every path on small devices, random ones on larger
//! devices, and what the work costs.

mod cost;
#[path = "../common/fate.rs"]
mod fate;
mod model;
mod promises;
mod random;
mod walk;
mod wander;
