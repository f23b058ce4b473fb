// SPDX-License-Identifier: GPL-2.0-only

//! The two binding steps: a device waits for a choice, and its driver goes by what was chosen.

use kernel::{
    prelude::*,
    sync::Mutex, //
};

/// How far a device below a region has come. Its driver moves it on.
pub enum Binding<Choice, Held> {
    /// No driver is bound; the choice is open or made.
    Waiting(Option<Choice>),
    /// The driver is on its way in or out by this choice, or lost its way back.
    Moving(Choice),
    /// The driver is bound by this choice, and holds this.
    Bound(Choice, Held),
}

impl<Choice: Copy + Unpin, Held: Unpin> Binding<Choice, Held> {
    /// What was chosen, if anything was.
    pub fn choice(&self) -> Option<Choice> {
        match self {
            Self::Waiting(choice) => *choice,
            Self::Moving(choice) | Self::Bound(choice, _) => Some(*choice),
        }
    }

    /// Binds by the choice that was made, with what `hold` gives. The lock is not held meanwhile: the choice
    /// can be read.
    ///
    /// # Errors
    ///
    /// `ENXIO`: no choice was made. `EBUSY`: a driver is bound, or on its way. Those of `hold`.
    pub fn bind(this: &Mutex<Self>, hold: impl FnOnce(Choice) -> Result<Held>) -> Result {
        let choice = {
            let mut binding = this.lock();
            match *binding {
                Self::Waiting(None) => return Err(ENXIO),
                Self::Waiting(Some(choice)) => {
                    *binding = Self::Moving(choice);
                    choice
                }
                Self::Moving(_) | Self::Bound(..) => return Err(EBUSY),
            }
        };
        let result = hold(choice);
        let mut binding = this.lock();
        match result {
            Ok(held) => {
                *binding = Self::Bound(choice, held);
                Ok(())
            }
            Err(error) => {
                *binding = Self::Waiting(Some(choice));
                Err(error)
            }
        }
    }

    /// Unbinds: `release` ends what is held. The choice stays, for the next time.
    pub fn unbind(this: &Mutex<Self>, release: impl FnOnce(Held)) {
        let (choice, held) = {
            let mut binding = this.lock();
            let Self::Bound(choice, _) = *binding else {
                return;
            };
            match core::mem::replace(&mut *binding, Self::Moving(choice)) {
                Self::Bound(choice, held) => (choice, held),
                _ => return,
            }
        };
        release(held);
        *this.lock() = Self::Waiting(Some(choice));
    }
}
