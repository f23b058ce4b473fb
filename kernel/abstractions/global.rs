// SPDX-License-Identifier: GPL-2.0-only

//! Mutexes that a whole module shares.
//!
//! The `kernel` crate's global locks must be initialised before they are used, which only an
//! `unsafe` block can promise. Here the lock itself knows whether it was.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            AtomicFlag,
            Relaxed,
            Release, //
        },
        GlobalGuard,
        GlobalLock,
        GlobalLockBackend, //
    },
};

/// A mutex in a static; declare one with [`global_mutex!`].
pub struct GlobalMutex<B: GlobalLockBackend + 'static> {
    lock: &'static GlobalLock<B>,
    claimed: AtomicFlag,
    ready: AtomicFlag,
}

impl<B: GlobalLockBackend> GlobalMutex<B> {
    /// Wraps `lock`.
    ///
    /// # Safety
    ///
    /// `lock` must not be used or initialised elsewhere.
    pub const unsafe fn new(lock: &'static GlobalLock<B>) -> Self {
        Self {
            lock,
            claimed: AtomicFlag::new(false),
            ready: AtomicFlag::new(false),
        }
    }

    /// Prepares the mutex; call it first in the module's init. Later calls change nothing.
    pub fn init(&self) {
        if !self.claimed.xchg(true, Relaxed) {
            // SAFETY: Only the first caller gets here, and `new()` promises that nobody else has
            // the lock.
            unsafe { self.lock.init() };
            self.ready.store(true, Release);
        }
    }

    /// Locks.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the mutex was not initialised.
    pub fn lock(&self) -> Result<GlobalGuard<B>> {
        if self.ready.load(Acquire) {
            Ok(self.lock.lock())
        } else {
            Err(ENODEV)
        }
    }
}

/// Declares a [`GlobalMutex`]; the module named holds the lock behind it.
///
/// ```ignore
/// global_mutex! {
///     /// What the module knows.
///     static KNOWN(known_lock): KVec<Thing> = KVec::new();
/// }
/// ```
#[macro_export]
macro_rules! global_mutex {
    ($(#[$meta:meta])* $vis:vis static $name:ident($module:ident): $value:ty = $init:expr;) => {
        mod $module {
            use super::*;

            kernel::sync::global_lock! {
                // SAFETY: `GlobalMutex` sees to it that nobody uses the lock before its init.
                pub(super) unsafe(uninit) static LOCK: Mutex<$value> = $init;
            }
        }

        $(#[$meta])*
        $vis static $name: $crate::abstractions::global::GlobalMutex<$module::LOCK> = {
            // SAFETY: The lock is declared for this mutex alone, in a module of its own.
            unsafe { $crate::abstractions::global::GlobalMutex::new(&$module::LOCK) }
        };
    };
}
