// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Dynamic capacity: memory that a device gives and takes back while the host runs (CXL 3.1, 9.13.3).
//!
//! What the device says is read by [`event`], [`configuration`] and [`list`], what it is told is written
//! by [`payload`]. [`admission`] decides which extents the host takes, [`holdings`] remembers those that it
//! has and what is to be done with them, and [`exchange`] keeps order: one answer for each group that the
//! fabric offers, in the order of the offers, and never one that nobody waits for.

pub mod admission;
pub mod configuration;
pub mod event;
pub mod exchange;
pub mod holdings;
pub mod list;
pub mod payload;
pub(crate) mod wire;
