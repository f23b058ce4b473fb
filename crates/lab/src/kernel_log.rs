// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells trouble from talk in a guest's kernel log.

use lab_protocol::KernelRecord;

/// What a healthy kernel never logs.
const TROUBLE: &[&str] = &[
    "WARNING:",
    "BUG:",
    // The allocator of small objects names the cache in between.
    "BUG ",
    "ODEBUG:",
    "non-static key",
    "lockdep is turned off",
    "Oops",
    "Call Trace:",
    "general protection fault",
    "refcount_t:",
    "UBSAN:",
    "KASAN:",
    "kernel BUG at",
    "Kernel panic",
    "scheduling while atomic",
    "possible circular locking",
    "suspicious RCU usage",
    "rcu_preempt detected stalls",
    "rcu_sched detected stalls",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "sysfs: cannot create duplicate filename",
    "kobject_add_internal failed",
    "invalid context",
    "bad page state",
    "Bad page state",
    "page allocation failure",
];

/// The records that a healthy kernel would not have logged.
#[must_use]
pub fn trouble(records: &[KernelRecord]) -> Vec<&KernelRecord> {
    records
        .iter()
        .filter(|record| TROUBLE.iter().any(|trouble| record.text.contains(trouble)))
        .collect()
}

/// A record as `dmesg` prints it.
#[must_use]
pub fn line(record: &KernelRecord) -> String {
    format!(
        "[{:5}.{:06}] {}",
        record.microseconds / 1_000_000,
        record.microseconds % 1_000_000,
        record.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> KernelRecord {
        KernelRecord {
            level: 4,
            microseconds: 12_000_345,
            text: text.into(),
        }
    }

    #[test]
    fn warnings_and_worse_are_trouble() {
        for text in [
            "WARNING: CPU: 0 PID: 1 at mm/memory_hotplug.c:1",
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "Oops: general protection fault, probably for non-canonical address",
            "INFO: task cxl:123 blocked for more than 120 seconds.",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
            "BUG kmalloc-64 (Tainted: G           O       ): Poison overwritten",
            "INFO: trying to register non-static key.",
        ] {
            assert_eq!(trouble(&[record(text)]).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_module_from_outside_the_kernel_is_expected() {
        for text in [
            "kmem: loading out-of-tree module taints kernel.",
            "kmem: module verification failed: signature and/or required key missing - tainting kernel",
            "cxl region0: Bypassing cpu_cache_invalidate_memregion() for testing!",
        ] {
            assert_eq!(trouble(&[record(text)]).len(), 0, "{text}");
        }
    }

    #[test]
    fn a_line_looks_like_dmesg() {
        assert_eq!(line(&record("hello")), "[   12.000345] hello");
    }
}
