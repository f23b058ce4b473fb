// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Dynamic capacity against a small model of the device and the fabric: every interleaving of a few
//! operations, random ones of many, and any bytes that a device may send.

mod bytes;
mod device;
mod doubt;
#[path = "../common/fate.rs"]
mod fate;
mod host;
mod promises;
mod random;
mod walk;
