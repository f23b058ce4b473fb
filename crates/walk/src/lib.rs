// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random walk over regions, their drivers and their memory, with everybody who may meddle.
//!
//! An [`operation`] is one thing that somebody does: a person with our tool or with sysfs, one of the stock tools, or a
//! hostile agent. A script is a list of them; [`generate`] makes scripts from a seed, and [`shrink`] makes a failing one
//! short. Whoever plays a script, on the real kernel (the program of this crate, in a guest of the lab) or on the model of
//! it in the tests of `region-policy`, shows what there is before and after each operation as a [`scene`], and [`promise`]
//! says whether what was promised still holds.

pub mod operation;
pub mod promise;
pub mod scene;
#[cfg(feature = "generate")]
pub mod shrink;

#[cfg(feature = "generate")]
pub mod generate;

pub use operation::Operation;
pub use scene::Scene;
