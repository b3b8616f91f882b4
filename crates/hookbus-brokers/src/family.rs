//! The processes a process has started, and those they have.

use std::fs;

use crate::process::Process;

/// All processes below this one. RabbitMQ has some; they notice that it is gone, but a moment later.
pub(crate) fn below(pid: u32) -> Vec<Process> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next].pid()));
        next += 1;
    }
    found
}

fn children(parent: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid| parent_of(pid) == Some(parent);
    // Once more behind the handle: between the two the number may have become another's.
    pids.filter(|pid| is_child(*pid))
        .filter_map(Process::open)
        .filter(|child| is_child(child.pid()))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    parse_parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 4 of the line; the second, the program's name, may hold spaces and brackets itself.
fn parse_parent(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parse_parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parse_parent("12 (a"), None);
    }

    #[test]
    fn whoever_is_below_ends_with_the_process() {
        let script = "sh -c 'echo ready; sleep 100; true'; true";
        let mut parent = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(parent.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        // The innermost may not be there yet: the two shells are enough.
        assert!(!below(parent.id()).is_empty());
        Process::open(parent.id()).unwrap().kill().unwrap();
        parent.wait().unwrap();
        // The output ends when the last of those that hold it has ended.
        assert_eq!(output.read_line(&mut String::new()).unwrap(), 0);
    }
}
