//! Showing mistakes: file:line:column, the line, a caret, and what would be right.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use hookbus_core::config::Problem;
use thiserror::Error;

use super::mask::looks_secret;

/// A configuration file as it was read, for showing places in it. What may be a secret is masked.
#[derive(Clone, Debug)]
pub struct Document {
    path: PathBuf,
    shown: String,
}

impl Document {
    /// The text of the file at `path`, with these ranges masked.
    pub(super) fn new(path: &Path, text: &str, secrets: &[Range<usize>]) -> Self {
        let mut shown = text.to_owned();
        for range in secrets {
            // As many bytes as before, so that every place stays where it is; line ends stay too.
            let mask: String =
                text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
            shown.replace_range(range.clone(), &mask);
        }
        Self { path: path.to_owned(), shown }
    }

    /// The problem without anything in its words that looks like a secret: a message quotes what it found.
    pub(super) fn tamed(problem: Problem) -> Problem {
        let tame = |text: &str| {
            let mut tamed = text.to_owned();
            for word in text.split(['`', '"', '\'', ' ', ',']).filter(|word| looks_secret(word)) {
                tamed = tamed.replace(word, "***");
            }
            tamed
        };
        Problem { message: tame(&problem.message), help: problem.help.as_deref().map(tame), ..problem }
    }

    /// Shows a problem in a few lines of plain text.
    fn render(&self, level: Level<'_>, problem: &Problem) -> String {
        let end = self.shown.len();
        let start = problem.span.start.min(end);
        let span = start..problem.span.end.clamp(start, end);
        let path = self.path.display().to_string();
        let snippet = Snippet::source(&self.shown).path(path).annotation(AnnotationKind::Primary.span(span));
        let mut group = Group::with_title(level.primary_title(problem.message.as_str())).element(snippet);
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}{}", .path.display(), hint(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is empty: somebody is probably writing it.
    #[error("the configuration {} is empty", .0.display())]
    Empty(PathBuf),
    /// The file is wrong somewhere: every place at once.
    #[error(transparent)]
    Wrong(#[from] Mistakes),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "\n`hookbus init` writes one to start from; `--config FILE` names another"
        }
        _ => "",
    }
}

/// All mistakes of a file, or all that deserves a warning in it.
#[derive(Clone, Debug)]
pub struct Mistakes {
    pub(super) document: Document,
    pub(super) problems: Vec<Problem>,
    pub(super) level: Severity,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Warning,
}

impl Mistakes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first of them in a line, and how many more there are.
    pub fn summary(&self) -> String {
        let Some(first) = self.problems.first() else { return String::new() };
        let before = &self.document.shown[..first.span.start.min(self.document.shown.len())];
        let (path, line) = (self.document.path.display(), before.matches('\n').count() + 1);
        let more = match self.problems.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("{path}:{line}: {}{more}", first.message)
    }

    /// For machines: each with its line and column (from 1), message and help.
    pub fn to_json(&self) -> serde_json::Value {
        let each = self.problems.iter().map(|problem| {
            let before = &self.document.shown[..problem.span.start.min(self.document.shown.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let (file, message, help) = (self.document.path.display().to_string(), &problem.message, &problem.help);
            let level = if self.level == Severity::Error { "error" } else { "warning" };
            serde_json::json!({ "level": level, "file": file, "line": line, "column": column, "message": message, "help": help })
        });
        each.collect()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let level = if self.level == Severity::Error { Level::ERROR } else { Level::WARNING };
            let gap = if at == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{}", self.document.render(level, problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
