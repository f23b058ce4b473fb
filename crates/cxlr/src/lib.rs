// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tool for regions of CXL memory: list, create, plug, unplug, destroy.
//!
//! A functional core in thin shells:
//!
//! - [`cli`] is the one definition of every option; help, manual page and completions come from it.
//! - [`plan`] works out what would be written, from a snapshot, or refuses with a rule and a remedy.
//! - [`transaction`] writes it, and undoes it in reverse when a step fails.
//! - [`settings`] are the system's own that it holds for a moment, and puts back even after a kill.
//! - [`list`] shows a snapshot, for people and for programs.
//! - [`release`] gives extents of dynamic capacity back, and [`monitor`] shows them come and go.
//! - [`command`] joins these for each subcommand.
//! - [`problem`] is what can go wrong, and the exit status that tells it.

pub mod cli;
pub mod command;
pub mod interrupt;
pub mod list;
pub mod man;
pub mod monitor;
pub mod plan;
pub mod problem;
pub mod release;
pub mod settings;
pub mod size;
pub mod transaction;
