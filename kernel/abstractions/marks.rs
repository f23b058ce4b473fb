// SPDX-License-Identifier: GPL-2.0-only

//! Marks that several users may want on one object at once: the first one sets it, and the last one takes it away,
//! unless it was there before all of them.

use kernel::{
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
};

/// The objects that are marked.
pub struct Marks<T: AlwaysRefCounted>(KVec<Mark<T>>);

struct Mark<T: AlwaysRefCounted> {
    object: ARef<T>,
    /// How many want it.
    count: usize,
    /// Whether it would not be there but for us.
    ours: bool,
}

impl<T: AlwaysRefCounted> Marks<T> {
    /// No object.
    pub const fn new() -> Self {
        Self(KVec::new())
    }

    /// One more wants a mark on `object`. `set` sets it and tells whether it was not there before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn add(&mut self, object: &T, set: impl FnOnce(&T) -> bool) -> Result {
        if let Some(mark) = self.0.iter_mut().find(|mark| mark.is_on(object)) {
            mark.count = mark.count.saturating_add(1);
            return Ok(());
        }
        self.0.reserve(1, GFP_KERNEL)?;
        let mark = Mark {
            object: object.into(),
            count: 1,
            ours: set(object),
        };
        self.0.push(mark, GFP_KERNEL)?;
        Ok(())
    }

    /// One less wants a mark on `object`. `clear` takes it away.
    pub fn remove(&mut self, object: &T, clear: impl FnOnce(&T)) {
        let Some(index) = self.0.iter().position(|mark| mark.is_on(object)) else {
            return;
        };
        if let Some(mark) = self.0.get_mut(index) {
            mark.count = mark.count.saturating_sub(1);
            if mark.count > 0 {
                return;
            }
            if mark.ours {
                clear(object);
            }
        }
        let _ = self.0.remove(index);
    }
}

impl<T: AlwaysRefCounted> Default for Marks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: AlwaysRefCounted> Mark<T> {
    fn is_on(&self, object: &T) -> bool {
        core::ptr::eq(&*self.object, object)
    }
}
