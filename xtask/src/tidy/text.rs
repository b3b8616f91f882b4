//! Rules about single files.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULES: &[Rule] =
    &[module_docs, length, module_names, banned, machine_paths, registry_hosts, trailing_whitespace];

/// This file spells out which words it forbids.
const RULES_FILE: &str = "xtask/src/tidy/text.rs";

const LONGEST: usize = 500;

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "misc", "shared"];

/// What no Rust file may contain, and why.
const BANNED: [(&str, &str); 6] = [
    ("#[ignore", "a test nobody runs proves nothing; assert today's behaviour or delete it"),
    ("#[should_panic", "it passes for any panic; compare the error itself"),
    ("thread::sleep", "a fixed wait is too long or too short; wait for the event itself with a deadline"),
    ("todo!(", "unfinished code does not get in"),
    ("unimplemented!(", "unfinished code does not get in"),
    ("unbounded_channel", "every queue has a bound"),
];

/// Folders at the root of somebody's machine; without their slashes, so that this file breaks no rule.
const MACHINE_FOLDERS: [&str; 4] = ["root", "work", "home", "Users"];

/// Hosts of package registries: name and domain.
const REGISTRIES: [(&str, &str); 6] = [
    ("crates", "io"),
    ("registry.npmjs", "org"),
    ("registry.yarnpkg", "com"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("proxy.golang", "org"),
];

fn module_docs(tree: &Tree) -> Vec<Finding> {
    let why = "a reader should learn what a file is for before how it does it";
    let bare = tree
        .ending(&[".rs"])
        .filter(|(_, text)| !text.starts_with("//!") && !text.starts_with("#![doc = include_str!"));
    bare.map(|(path, _)| Finding::new(path, 1, "the file does not begin with a `//!` comment", why)).collect()
}

fn length(tree: &Tree) -> Vec<Finding> {
    let why = "a file that does one thing is shorter; split it by what it does";
    let sizes = tree.ending(&[".rs"]).map(|(path, text)| (path, text.lines().count()));
    let long = sizes.filter(|(_, lines)| *lines > LONGEST);
    long.map(|(path, lines)| Finding::new(path, lines, format!("more than {LONGEST} lines"), why)).collect()
}

fn module_names(tree: &Tree) -> Vec<Finding> {
    let why = "such a name attracts whatever has no place; name a module after what it does";
    let named = tree.ending(&[".rs"]).filter_map(|(path, _)| {
        let parts = path.trim_end_matches(".rs").split('/');
        Some((path, parts.into_iter().find(|part| EMPTY_NAMES.contains(part))?))
    });
    named.map(|(path, part)| Finding::new(path, 1, format!("a module named `{part}`"), why)).collect()
}

fn banned(tree: &Tree) -> Vec<Finding> {
    let code = lines(tree.ending(&[".rs"]).filter(|(path, _)| *path != RULES_FILE));
    let code = code.filter(|(_, _, line)| !line.trim_start().starts_with("//"));
    let found = code.flat_map(|(path, number, line)| {
        let hits = BANNED.iter().filter(move |(pattern, _)| line.contains(pattern));
        hits.map(move |(pattern, why)| Finding::new(path, number, format!("`{pattern}`"), why))
    });
    found.collect()
}

fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let why = "it holds on one machine only; make it relative, or take it from the environment";
    let patterns = MACHINE_FOLDERS.map(|folder| format!("/{folder}/"));
    let found = lines(tree.files()).filter_map(|(path, number, line)| {
        let pattern = patterns.iter().find(|pattern| is_absolute_in(line, pattern))?;
        Some(Finding::new(path, number, format!("the path `{pattern}`"), why))
    });
    found.collect()
}

/// Whether a path begins with `pattern`, rather than has it further in, as a URL may.
fn is_absolute_in(line: &str, pattern: &str) -> bool {
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~})>*".contains(c))
    })
}

fn registry_hosts(tree: &Tree) -> Vec<Finding> {
    let why = "where packages come from is cargo's configuration, which differs from machine to machine";
    let hosts = REGISTRIES.map(|(name, domain)| format!("{name}.{domain}"));
    // The lock file is cargo's and names the index whatever the configuration says.
    let files = tree.files().filter(|(path, _)| !path.ends_with("Cargo.lock"));
    let found = lines(files).filter_map(|(path, number, line)| {
        let host = hosts.iter().find(|host| line.contains(*host))?;
        Some(Finding::new(path, number, format!("the registry host `{host}`"), why))
    });
    found.collect()
}

fn trailing_whitespace(tree: &Tree) -> Vec<Finding> {
    let why = "it shows up in every later diff";
    let files = tree.ending(&[".rs", ".md", ".toml"]);
    let lines = files
        .flat_map(|(path, text)| text.split('\n').zip(1..).map(move |(line, number)| (path, number, line)));
    let found = lines.filter(|(_, _, line)| line.ends_with(char::is_whitespace));
    found
        .map(|(path, number, _)| Finding::new(path, number, "white space at the end of the line", why))
        .collect()
}

fn lines<'a>(
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (&'a str, usize, &'a str)> {
    files.flat_map(|(path, text)| text.lines().zip(1..).map(move |(line, number)| (path, number, line)))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::places, *};

    #[test]
    fn every_file_begins_with_what_it_is_for() {
        let files = [
            ("a.rs", "//! What.\n"),
            ("b.rs", "#![doc = include_str!(\"../README.md\")]\n"),
            ("c.rs", "use x;\n//! late\n"),
            ("d.rs", ""),
            ("e.md", "text"),
        ];
        assert_eq!(places(module_docs, &files), ["c.rs:1", "d.rs:1"]);
    }

    #[test]
    fn five_hundred_lines_are_the_limit() {
        let (full, over) = ("x\n".repeat(500), "x\n".repeat(501));
        assert_eq!(places(length, &[("a.rs", &full), ("b.rs", &over), ("c.json", &over)]), ["b.rs:501"]);
    }

    #[test]
    fn modules_have_names_that_say_something() {
        let files = [
            ("src/utils.rs", ""),
            ("tests/common/mod.rs", ""),
            ("src/utility_function.rs", ""),
            ("misc.md", ""),
        ];
        assert_eq!(places(module_names, &files), ["src/utils.rs:1", "tests/common/mod.rs:1"]);
    }

    #[test]
    fn banned_words_are_found_in_code_and_not_in_comments() {
        let text =
            "//! No thread::sleep.\n#[ignore = \"slow\"]\nstd::thread::sleep(x);\n    // todo!(\ntodo!()\n";
        assert_eq!(
            places(banned, &[("a.rs", text), ("b.md", text), (RULES_FILE, text)]),
            ["a.rs:2", "a.rs:3", "a.rs:5"]
        );
    }

    #[test]
    fn paths_of_one_machine_are_found_and_parts_of_a_url_are_not() {
        let text = "see |root|x\n\"|work|y\"\nhttps:||example.com|home|z\n|var|work|x\nfile:|||home|me|x\n";
        assert_eq!(
            places(machine_paths, &[("a.sh", &text.replace('|', "/"))]),
            ["a.sh:1", "a.sh:2", "a.sh:5"]
        );
    }

    #[test]
    fn registries_are_named_in_the_lock_file_only() {
        let text = "source = \"https://crates,io\"\n".replace(',', ".");
        assert_eq!(places(registry_hosts, &[("Cargo.lock", &text), ("a.toml", &text)]), ["a.toml:1"]);
    }

    #[test]
    fn white_space_at_the_end_is_found_carriage_returns_too() {
        assert_eq!(
            places(trailing_whitespace, &[("a.md", "x \ny\nz\r\n"), ("b.json", "x \n")]),
            ["a.md:1", "a.md:3"]
        );
    }
}
