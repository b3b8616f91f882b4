//! Where a bridge spends its time: samples by `perf`, while it is as busy as it can be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Pid;

/// Lines of a report that are printed; all of them are in its file.
const SHOWN: usize = 25;

/// Samples that are being taken.
pub(crate) struct Profile {
    perf: Child,
    samples: PathBuf,
}

impl Profile {
    /// Begins to sample a process, for so long.
    pub(crate) fn begin(folder: &Path, name: &str, pid: Pid, duration: Duration) -> Self {
        fs::create_dir_all(folder).unwrap();
        let samples = folder.join(format!("{name}.perf"));
        let mut perf = Command::new("perf");
        // Not a round frequency, which might keep step with a timer.
        perf.args(["record", "--freq", "997", "--call-graph", "dwarf,8192", "--output"]).arg(&samples);
        perf.args(["--pid", &pid.as_raw_nonzero().to_string(), "--", "sleep"]);
        perf.arg(duration.as_secs().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { perf: perf.spawn().expect("`perf` is there: Debian's package is linux-perf"), samples }
    }

    /// Waits for the last sample, and shows in which functions most of the time went.
    pub(crate) fn end(mut self) {
        assert!(self.perf.wait().unwrap().success(), "perf could take no samples");
        let report = Command::new("perf")
            .args(["report", "--no-children", "--no-inline", "--sort", "dso,symbol", "--call-graph", "none"])
            .args(["--stdio", "--input"])
            .arg(&self.samples)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&report.stdout);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let lines: Vec<_> = lines.map(|line| line.trim_end_matches(['-', ' '])).collect();
        let file = self.samples.with_extension("txt");
        fs::write(&file, lines.join("\n")).unwrap();
        println!("{}", file.display());
        lines.iter().take(SHOWN).for_each(|line| println!("{line}"));
    }
}
