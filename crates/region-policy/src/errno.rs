// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The error numbers that a refused or failed operation gives to a shell user.
//!
//! They are positive, in the numbering that x86, arm64 and RISC-V share.

/// Operation not permitted: the region's policy forbids it.
pub const EPERM: i32 = 1;
/// Input/output error: the kernel reported success, but the memory is not what was asked for.
pub const EIO: i32 = 5;
/// Device or resource busy: a step has to come first.
pub const EBUSY: i32 = 16;
/// Invalid argument: no such word in this attribute.
pub const EINVAL: i32 = 22;
/// Operation not supported: this driver does not serve memory of this kind.
pub const EOPNOTSUPP: i32 = 95;
