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

/// What a bridge takes for something that is done to it.
pub(crate) struct Cost {
    cpu: u64,
    rss: u64,
}

impl Cost {
    /// Begins to count; the highest memory so far is forgotten.
    pub(crate) fn begin(bridge: &Bridge) -> Self {
        fs::write(format!("/proc/{}/clear_refs", bridge.pid().as_raw_nonzero()), "5").unwrap();
        Self { cpu: ticks(bridge), rss: kibibytes(bridge, "VmRSS:") }
    }

    /// Milliseconds of CPU since then, and KiB of memory: before, and at the peak.
    pub(crate) fn end(&self, bridge: &Bridge) -> (u64, u64, u64) {
        let per_second = rustix::param::clock_ticks_per_second();
        ((ticks(bridge) - self.cpu) * 1000 / per_second, self.rss, kibibytes(bridge, "VmHWM:"))
    }
}

/// Time on the CPU, of all threads, in user mode and in the kernel.
fn ticks(bridge: &Bridge) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", bridge.pid().as_raw_nonzero())).unwrap();
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
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
