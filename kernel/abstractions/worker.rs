// SPDX-License-Identifier: GPL-2.0-only

//! Work that is done when something happened, and once in a while; one run at a time.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::bindings;
use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// Milliseconds since boot, as work that is due later counts them.
pub fn now() -> u64 {
    // SAFETY: The function has no conditions.
    unsafe { bindings::milliseconds_now() }
}

/// What is done.
pub trait Task: Send + Sync + Sized + 'static {
    /// Does it. Returns after how many milliseconds to do it again, if nothing happens before.
    fn run(worker: ArcBorrow<'_, Worker<Self>>) -> u32;
}

/// A task and its work; [`Worker::stop`] it before dropping what the task uses.
///
/// # Invariants
///
/// It is in an [`Arc`]; `work` is initialised, and calls [`run`] with itself.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Worker<T: Task> {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    task: T,
}

// SAFETY: The work locks itself, and the task is `Send`.
unsafe impl<T: Task> Send for Worker<T> {}
// SAFETY: The work locks itself, and the task is `Sync`.
unsafe impl<T: Task> Sync for Worker<T> {}

impl<T: Task> Worker<T> {
    /// Makes a worker that has not been asked to do anything.
    pub fn new(task: T) -> Result<Arc<Self>> {
        let worker = pin_init!(Self {
            work <- Opaque::ffi_init(|work: *mut bindings::delayed_work| {
                // SAFETY: `work` is pinned memory for one, and is stopped before it goes away.
                unsafe { bindings::worker_init(work, Some(run::<T>)) };
            }),
            task,
        });
        // INVARIANT: Nobody else makes one.
        Arc::pin_init(worker, GFP_KERNEL)
    }

    /// Has the task done as soon as may be. May be called from interrupts.
    pub fn hurry(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::worker_hurry(self.work.get()) };
    }

    /// Waits until the task is not being done; it never will be again.
    pub fn stop(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }
}

impl<T: Task> Deref for Worker<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.task
    }
}

#[pinned_drop]
impl<T: Task> PinnedDrop for Worker<T> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}

/// # Safety
///
/// Called by the work queue only, with the work of a `Worker<T>`.
unsafe extern "C" fn run<T: Task>(work: *mut bindings::work_struct) {
    // SAFETY: The work is that of a delayed work, which is the first field of a worker; the worker is
    // in an `Arc`, and waits for the end of this call before it goes away.
    let worker = unsafe { ArcBorrow::from_raw(bindings::worker_of(work).cast::<Worker<T>>()) };
    let delay = T::run(worker);
    // SAFETY: The type's invariant. Work that was asked for meanwhile is not put off.
    unsafe { bindings::worker_queue(worker.work.get(), delay) };
}
