//! Rules about the workspace as a whole.

use super::{
    Finding, Rule,
    manifest::{dependencies, entries},
    tree::Tree,
};

pub(super) const RULES: &[Rule] = &[
    virtual_root,
    folder_names,
    inheritance,
    one_version_list,
    architecture,
    small_main,
    pure_core,
    licences,
];

const ROOT: &str = "Cargo.toml";
const ARCHITECTURE: &str = "ARCHITECTURE.md";

const MAIN: &str = "crates/hookbus/src/main.rs";
const MAIN_LINES: usize = 40;

/// Crates that would make the core more than the core.
const FOREIGN_TO_CORE: [&str; 9] =
    ["rdkafka", "rdkafka-sys", "lapin", "redis", "hyper", "hyper-util", "axum", "warp", "actix-web"];

/// What a member takes from the workspace.
const INHERITED: [(&str, &str); 4] =
    [("package", "version"), ("package", "edition"), ("package", "license"), ("lints", "workspace")];

/// A licence, its file, and words of its text.
const LICENCES: [(&str, &str, &str); 2] = [
    ("MIT", "LICENSE-MIT", "Permission is hereby granted, free of charge"),
    ("Apache-2.0", "LICENSE-APACHE", "Apache License"),
];

fn virtual_root(tree: &Tree) -> Vec<Finding> {
    let why = "a package at the root would be everybody's default and hide the workspace";
    let root = entries(tree.text(ROOT).unwrap_or_default());
    if !root.iter().any(|entry| entry.table == "workspace") {
        return vec![Finding::new(ROOT, 1, "there is no `[workspace]`", why)];
    }
    let package = root.iter().find(|entry| entry.table == "package");
    package.map(|entry| Finding::new(ROOT, entry.line, "the root is a package", why)).into_iter().collect()
}

fn folder_names(tree: &Tree) -> Vec<Finding> {
    let why = "whoever reads a crate's name should know where it is";
    let wrong = tree.crates().filter_map(|folder| {
        let path = format!("crates/{folder}/Cargo.toml");
        let entries = entries(tree.text(&path)?);
        let name = entries.iter().find(|entry| entry.table == "package" && entry.key == "name")?;
        let found = name.value.trim_matches('"');
        let finding =
            || Finding::new(&path, name.line, format!("`{found}` stands in the folder `{folder}`"), why);
        (found != folder).then(finding)
    });
    wrong.collect()
}

fn inheritance(tree: &Tree) -> Vec<Finding> {
    let why = "what differs from crate to crate is overlooked; the lints above all";
    let missing = members(tree).flat_map(|(path, text)| {
        let entries = entries(text);
        let lacks = move |(table, key): &(&str, &str)| {
            let dotted = format!("{key}.workspace");
            !entries.iter().any(|entry| {
                let named = entry.table == *table
                    && (entry.key == dotted || entry.key == *key && *key == "workspace");
                named && entry.value == "true"
            })
        };
        let missing = INHERITED.into_iter().filter(lacks);
        missing.map(move |(table, key)| {
            let wanted = if key == "workspace" {
                "workspace = true".into()
            } else {
                format!("{key}.workspace = true")
            };
            Finding::new(path, 1, format!("`{wanted}` is missing in `[{table}]`"), why)
        })
    });
    missing.collect()
}

fn one_version_list(tree: &Tree) -> Vec<Finding> {
    let why = "versions stand once, in the root manifest, so that no two crates use different ones";
    let own = members(tree).flat_map(|(path, text)| {
        let own = dependencies(text).into_iter().filter(|dependency| !dependency.inherited);
        own.map(move |one| {
            Finding::new(path, one.line, format!("`{}` is not `workspace = true`", one.name), why)
        })
    });
    own.collect()
}

fn architecture(tree: &Tree) -> Vec<Finding> {
    let why = "the map of the code is only of use if it is whole";
    let Some(text) = tree.text(ARCHITECTURE) else {
        return vec![Finding::new(ARCHITECTURE, 1, "the file is missing", why)];
    };
    let missing = tree.crates().filter_map(|name| {
        let mut headings =
            text.lines().zip(1..).filter(|(line, _)| line.starts_with('#') && has_word(line, name));
        let Some((_, line)) = headings.next() else {
            return Some(Finding::new(ARCHITECTURE, 1, format!("no heading names `{name}`"), why));
        };
        let mut section = text.lines().skip(line).take_while(|line| !line.starts_with('#'));
        let stated = section.any(|line| line.contains("Invariant"));
        (!stated)
            .then(|| Finding::new(ARCHITECTURE, line, format!("no `Invariant` is stated for `{name}`"), why))
    });
    missing.collect()
}

/// Whether a crate's name stands in a line, not only as the beginning of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|found| found == word)
}

fn small_main(tree: &Tree) -> Vec<Finding> {
    let why = "the stock binary uses the public builder only, so that anybody can write their own";
    match tree.text(MAIN).map(|text| text.lines().count()) {
        None => vec![Finding::new(MAIN, 1, "the file is missing", why)],
        Some(lines) if lines >= MAIN_LINES => {
            vec![Finding::new(MAIN, lines, format!("{MAIN_LINES} lines or more"), why)]
        }
        Some(_) => Vec::new(),
    }
}

fn pure_core(tree: &Tree) -> Vec<Finding> {
    let why = "the core knows no bus and opens no socket, so that a sink can be written against it alone";
    let path = "crates/hookbus-core/Cargo.toml";
    let all = dependencies(tree.text(path).unwrap_or_default());
    let foreign = all.iter().filter(|dependency| FOREIGN_TO_CORE.contains(&dependency.name));
    foreign.map(|one| Finding::new(path, one.line, format!("it depends on `{}`", one.name), why)).collect()
}

fn licences(tree: &Tree) -> Vec<Finding> {
    let why = "who may use the code must be beyond doubt";
    let root = entries(tree.text(ROOT).unwrap_or_default());
    let Some(field) = root.iter().find(|entry| entry.table == "workspace.package" && entry.key == "license")
    else {
        return vec![Finding::new(ROOT, 1, "`license` is missing in `[workspace.package]`", why)];
    };
    let named = field.value.trim_matches('"').split(" OR ").collect::<Vec<_>>();
    let unknown = named.iter().filter(|name| !LICENCES.iter().any(|(known, ..)| known == *name));
    let unknown =
        unknown.map(|name| Finding::new(ROOT, field.line, format!("no file is known for `{name}`"), why));
    let files =
        LICENCES.iter().filter_map(|(name, file, words)| match (named.contains(name), tree.text(file)) {
            (true, None) => {
                Some(Finding::new(*file, 1, format!("the file is missing, but `license` names {name}"), why))
            }
            (true, Some(text)) if !text.contains(words) => {
                Some(Finding::new(*file, 1, format!("this is not the text of {name}"), why))
            }
            (false, Some(_)) => Some(Finding::new(*file, 1, format!("`license` does not name {name}"), why)),
            _ => None,
        });
    unknown.chain(files).collect()
}

/// The manifests of all members.
fn members(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.ending(&["/Cargo.toml"]).filter(|(path, _)| !path.starts_with("fuzz/"))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::places, *};

    const CORE: &str = "crates/hookbus-core/Cargo.toml";

    #[test]
    fn the_root_is_virtual() {
        assert!(places(virtual_root, &[(ROOT, "[workspace]\nmembers = []\n")]).is_empty());
        assert_eq!(places(virtual_root, &[(ROOT, "[package]\nname = \"x\"\n")]), ["Cargo.toml:1"]);
        let both = "[workspace]\nmembers = []\n[package]\nname = \"x\"\n";
        assert_eq!(places(virtual_root, &[(ROOT, both)]), ["Cargo.toml:4"]);
    }

    #[test]
    fn a_folder_is_named_as_its_package() {
        let files = [
            (CORE, "[package]\nname = \"hookbus-core\"\n"),
            ("crates/x/Cargo.toml", "[package]\nname = \"y\"\n"),
        ];
        assert_eq!(places(folder_names, &files), ["crates/x/Cargo.toml:2"]);
    }

    #[test]
    fn members_inherit_what_is_common() {
        let whole = "[package]\nversion.workspace = true\nedition.workspace = true\nlicense.workspace = true\n\
            [lints]\nworkspace = true\n";
        assert!(places(inheritance, &[(CORE, whole)]).is_empty());
        let part = whole.replace("[lints]\nworkspace = true\n", "");
        assert_eq!(places(inheritance, &[(CORE, &part)]), [format!("{CORE}:1")]);
    }

    #[test]
    fn versions_stand_in_the_root_only() {
        let files = [
            (ROOT, "[workspace.dependencies]\na = \"1\"\n"),
            (CORE, "[dependencies]\na.workspace = true\nb = \"1\"\n"),
        ];
        assert_eq!(places(one_version_list, &files), [format!("{CORE}:3")]);
    }

    #[test]
    fn the_map_names_every_crate_with_an_invariant() {
        let check = |text| {
            let files = [("crates/hookbus/Cargo.toml", ""), (CORE, ""), (ARCHITECTURE, text)];
            places(architecture, &files)
        };
        let whole = "# Map\n## `crates/hookbus-core`\n**Invariant**: x\n## `crates/hookbus`\nText.\n**Invariant**: y\n";
        assert!(check(whole).is_empty(), "{:?}", check(whole));
        assert_eq!(check("## hookbus-core\n**Invariant**: x\n"), ["ARCHITECTURE.md:1"]);
        assert_eq!(check("## hookbus\nText.\n## hookbus-core\n**Invariant**: x\n"), ["ARCHITECTURE.md:1"]);
        assert_eq!(places(architecture, &[]), ["ARCHITECTURE.md:1"]);
    }

    #[test]
    fn main_stays_small() {
        assert!(places(small_main, &[(MAIN, &"x\n".repeat(39))]).is_empty());
        assert_eq!(places(small_main, &[(MAIN, &"x\n".repeat(40))]), [format!("{MAIN}:40")]);
    }

    #[test]
    fn the_core_stays_the_core() {
        let text = "[dependencies]\nhttp.workspace = true\nhyper.workspace = true\n[dev-dependencies]\nlapin.workspace = true\n";
        assert_eq!(places(pure_core, &[(CORE, text)]), [format!("{CORE}:3"), format!("{CORE}:5")]);
    }

    #[test]
    fn licence_files_match_the_field() {
        let root = "[workspace.package]\nlicense = \"MIT OR Apache-2.0\"\n";
        let mit = ("LICENSE-MIT", "Permission is hereby granted, free of charge, to ..");
        let apache = ("LICENSE-APACHE", "Apache License\nVersion 2.0");
        assert!(places(licences, &[(ROOT, root), mit, apache]).is_empty());
        assert_eq!(places(licences, &[(ROOT, root), mit]), ["LICENSE-APACHE:1"]);
        assert_eq!(places(licences, &[(ROOT, root), ("LICENSE-MIT", "?"), apache]), ["LICENSE-MIT:1"]);
        let only_mit = root.replace(" OR Apache-2.0", "");
        assert_eq!(places(licences, &[(ROOT, &only_mit), mit, apache]), ["LICENSE-APACHE:1"]);
        let other = root.replace("MIT", "ISC");
        assert_eq!(places(licences, &[(ROOT, &other), apache]), ["Cargo.toml:2"]);
    }
}
