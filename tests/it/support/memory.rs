//! What a process holds in memory, as the kernel counts it.

use std::fs;

use super::Bridge;

/// Memory of a bridge before something was done to it.
pub(crate) struct Memory {
    before: u64,
}

impl Memory {
    /// Notes what the bridge holds now. It has served a few requests by then, which make what is made once.
    pub(crate) fn before(bridge: &Bridge) -> Self {
        Self { before: kibibytes(bridge, "VmRSS:") }
    }

    /// Checks that the bridge never held more than so many bytes beyond what it held before, and shows the
    /// figures.
    pub(crate) fn check(&self, bridge: &Bridge, what: &str, may_grow: u64) {
        // The kernel's own high-water mark: no peak falls between two looks.
        let (before, peak) = (self.before, kibibytes(bridge, "VmHWM:"));
        let grown = peak.saturating_sub(before);
        let may_grow = may_grow / 1024;
        eprintln!("{what}: RSS {before} KiB before, {peak} KiB at its peak: {grown} of {may_grow} KiB more");
        assert!(grown <= may_grow, "{what}: grew by {grown} KiB where {may_grow} KiB are allowed");
    }
}

/// What a bridge holds now, and the most it ever held, in MiB.
pub(crate) fn held(bridge: &Bridge) -> (u64, u64) {
    (kibibytes(bridge, "VmRSS:") / 1024, kibibytes(bridge, "VmHWM:") / 1024)
}

fn kibibytes(bridge: &Bridge, field: &str) -> u64 {
    let path = format!("/proc/{}/status", bridge.pid().as_raw_nonzero());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}
