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

    /// Prepares the mutex, in the module's init. What is in it at the end of the lifetime is dropped then:
    /// nobody drops a module's statics.
    pub fn begin(&'static self) -> Lifetime
    where
        B::Item: Default + Unpin,
        Self: Sync,
    {
        if !self.claimed.xchg(true, Relaxed) {
            // SAFETY: Only the first caller gets here, and `new()` promises that nobody else has
            // the lock.
            unsafe { self.lock.init() };
            self.ready.store(true, Release);
        }
        Lifetime(self)
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

/// The time from a module's init to its exit, in which a [`GlobalMutex`] holds something.
pub struct Lifetime(&'static dyn Clear);

impl Drop for Lifetime {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// A mutex, whatever is in it.
trait Clear: Sync {
    fn clear(&self);
}

impl<B> Clear for GlobalMutex<B>
where
    B: GlobalLockBackend,
    B::Item: Default + Unpin,
    Self: Sync,
{
    fn clear(&self) {
        // What is dropped may want the lock, and gets it: the guard is gone by then.
        let item = self.lock().map(|mut item| core::mem::take(&mut *item));
        drop(item);
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
