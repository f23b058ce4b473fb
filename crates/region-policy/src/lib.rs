// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a region driver decides, without the kernel that it decides for.
//!
//! A CXL region that is used as system RAM is a set of *memory blocks* in one or more ranges.
//! Its owner states a policy once ([`online_type`], [`zone`]); the kernel tells what the blocks are
//! ([`blocks`], [`census`], [`state`]); a user asks for a change ([`request`]); [`transition`] decides
//! whether and how; and [`engine`] carries it out through a small trait, entirely or not at all, with
//! [`journal`] as its memory of what was there before. [`layout`] and [`matrix`] answer what comes
//! earlier: which blocks a range holds, and which driver may take a region; [`soft_reserved`], whether a
//! region is its driver's at all; [`interleave`], where a byte of a region
//! is; [`linear_cache`], which other byte shares its fate.
//!
//! A region that applications map themselves has DAX devices in one of two modes ([`dax_mode`]), which
//! it changes for all of them at once ([`handover`]).
//!
//! Where a device gives memory and takes it back while the host runs, [`extent`] says in which pieces and
//! [`dcd`] what becomes of them.
//!
//! Nothing here allocates, panics or uses `unsafe`: the same files are compiled into the kernel
//! modules and into the tool.

#![cfg_attr(not(test), no_std)]
// Kbuild says `no_std` on the compiler's command line as well.
#![allow(unused_attributes, clippy::duplicated_attributes)]

pub mod blocks;
pub mod census;
pub mod dax_mode;
pub mod dcd;
pub mod engine;
pub mod errno;
pub mod extent;
pub mod handover;
pub mod interleave;
pub mod journal;
pub mod layout;
pub mod linear_cache;
pub mod matrix;
pub mod online_type;
pub mod request;
pub mod soft_reserved;
pub mod state;
pub mod transition;
pub mod zone;
