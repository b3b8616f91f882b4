//! From a file to a [`Config`], or to all that is wrong with it.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use hookbus_core::{
    SinkRegistry,
    config::{self, Problem, Table},
    registry::SinkType,
    route::Route,
    units::{ByteSize, Duration},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Admin, Config, ConfigError, DeadLetters, Document, Journal, Rejected, Server, Share, SinkConfig,
    SourceConfig,
    diagnostic::{Mistakes, Severity},
    future::{self, Place},
    mask::masked,
    outline::Outline,
    route::{self, Names},
};
use crate::ingress::ByteBudget;

/// The default of a sink's `publish-timeout`.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The most requests that one HTTP/2 connection may be allowed to have in progress.
const MAX_STREAMS: usize = 1000;

/// The text of a configuration and where it came from.
#[derive(Clone, Debug)]
pub struct ConfigText {
    text: String,
    path: PathBuf,
    base: PathBuf,
}

impl ConfigText {
    /// A text that stands in no file; relative paths in it start from the current folder.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), path: "hookbus.toml".into(), base: ".".into() }
    }

    /// Reads a file; relative paths in it start from its folder.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { text, path: path.to_owned(), base: base.to_owned() })
    }

    /// Refuses a file without anything in it, which a running bridge would take for an order to do nothing: it is
    /// more likely that it is being written.
    pub(crate) fn refuse_empty(&self) -> Result<(), ConfigError> {
        if self.text.trim().is_empty() { Err(ConfigError::Empty(self.path.clone())) } else { Ok(()) }
    }
}

impl Config {
    /// Checks a configuration. The second value holds what deserves a warning.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with every mistake in it.
    pub fn parse(config: &ConfigText, registry: &SinkRegistry) -> Result<(Self, Mistakes), ConfigError> {
        let ConfigText { text, path, base } = config;
        let (root, syntax) = DeTable::parse_recoverable(text);
        let document = Document::new(path, text, &masked(text, root.get_ref(), !syntax.is_empty()));
        let mistakes = |problems: Vec<Problem>, level| {
            let problems = problems.into_iter().map(Document::tamed).collect();
            Mistakes { document: document.clone(), problems, level }
        };
        // A mistake in the syntax makes all that follows look wrong: only the first one is worth reading.
        let first = syntax.iter().min_by_key(|error| error.span().map_or(0, |span| span.start));
        if let Some(error) = first {
            let message = match error.message() {
                "duplicate key" => "this name is there already",
                other => other,
            };
            let problem =
                Problem::new(error.span().unwrap_or(0..0), message).help("what follows could not be read");
            return Err(mistakes(vec![problem], Severity::Error).into());
        }
        let mut reading = Reading { registry, problems: Vec::new(), warnings: Vec::new() };
        let config = reading.config(Table::new(root.span(), root.into_inner()), base);
        let Reading { mut problems, mut warnings, .. } = reading;
        problems.sort_by_key(|problem| problem.span.start);
        warnings.sort_by_key(|warning| warning.span.start);
        match config {
            Some(config) if problems.is_empty() => Ok((config, mistakes(warnings, Severity::Warning))),
            _ => Err(mistakes(problems, Severity::Error).into()),
        }
    }
}

struct Reading<'r> {
    registry: &'r SinkRegistry,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'r> Reading<'r> {
    fn config(&mut self, mut root: Table<'_>, base: &Path) -> Option<Config> {
        let outline = Outline::of(&root);
        future::refuse(Place::Top, &mut root, &mut self.problems);
        let server = self.server(&mut root);
        let admin = self.admin(&mut root, server.as_ref());
        let dead_letters =
            self.section(&mut root, "dead-letters").map(|table| self.read::<DeadLetters>(&table));
        let rejected = self.rejected(&mut root);
        let sources = self.sources(&mut root);
        let journal = self.journal(&mut root);
        if let (Some(server), Some(journal)) = (&server, &journal) {
            let largest = journal.largest_body();
            if server.limits.body.get() > largest {
                let message = format!(
                    "`limits.body` ({}) is more than the journal takes of one event, {}: what is larger is refused with 413",
                    server.limits.body,
                    ByteSize::from_bytes(largest)
                );
                self.warnings.push(
                    Problem::new(0..0, message)
                        .help("lower `limits.body`, or raise `segment-size` and `max-size`"),
                );
            }
        }
        let max_size = journal.as_ref().map_or(Journal::default().max_size, |journal| journal.max_size);
        let sinks = self.sinks(&mut root, max_size);
        let routes = self.routes(&mut root, &sources, &sinks);
        const SECTIONS: [&str; 8] =
            ["server", "admin", "journal", "dead-letters", "rejected", "sources", "sinks", "routes"];
        let unknown =
            root.iter().map(|(span, key, _)| Problem::unknown_key(span, key, SECTIONS.iter().copied()));
        self.problems.extend(unknown);
        let dead_letters = dead_letters.unwrap_or_else(|| Some(DeadLetters::default()));
        let journal = journal?;
        Some(Config {
            base: base.to_owned(),
            server: server?,
            admin: admin?,
            journal: Journal { dir: base.join(&journal.dir), ..journal },
            dead_letters: dead_letters?,
            rejected: rejected?,
            sources: sources.into_iter().map(|(_, _, source)| source).collect::<Option<_>>()?,
            sinks: sinks.into_iter().map(|sink| sink.config).collect::<Option<_>>()?,
            routes: routes?,
            outline,
        })
    }

    fn server(&mut self, root: &mut Table<'_>) -> Option<Server> {
        let Some(mut table) = self.section(root, "server") else { return Some(Server::default()) };
        future::refuse(Place::Server, &mut table, &mut self.problems);
        let server: Server = self.read(&table)?;
        self.problems.extend(server.problems(&table));
        let limits = &server.limits;
        let headers = limits.headers.get();
        let mut wrong = |message: String| self.problems.push(table.problem_at("limits", message));
        if !(8 << 10..=256 << 10).contains(&headers) {
            wrong(format!("`limits.headers` is {}; it must lie between 8KiB and 256KiB", limits.headers));
        }
        if !ByteBudget::takes(limits.in_flight.as_len(), limits.body.as_len()) {
            wrong(format!(
                "`limits.body` ({}) needs a larger `limits.in-flight` than {}: a body may use an eighth of it",
                limits.body, limits.in_flight
            ));
        }
        if limits.per_address() > limits.connections.0 {
            wrong("`limits.connections-per-address` is more than `limits.connections`".into());
        }
        if limits.streams.0 > MAX_STREAMS {
            wrong(format!(
                "`limits.streams` is {}; it must lie between 1 and {MAX_STREAMS}",
                limits.streams.0
            ));
        }
        Some(server)
    }

    /// Nothing where it is wrong; nothing in it where there is no such section.
    fn admin(&mut self, root: &mut Table<'_>, server: Option<&Server>) -> Option<Option<Admin>> {
        if !root.has("admin") {
            return Some(None);
        }
        let table = self.section(root, "admin")?;
        let admin: Admin = self.read(&table)?;
        if let Some(server) = server.filter(|server| admin.collides_with(server.listen)) {
            let message = format!(
                "`[admin] listen` ({}) is taken by `[server] listen` ({})",
                admin.listen, server.listen
            );
            self.problems.push(table.problem_at("listen", message).help("give it a port of its own"));
            return None;
        }
        Some(Some(admin))
    }

    fn journal(&mut self, root: &mut Table<'_>) -> Option<Journal> {
        let Some(table) = self.section(root, "journal") else { return Some(Journal::default()) };
        let journal: Journal = self.read(&table)?;
        self.problems.extend(journal.problems(&table));
        Some(journal)
    }

    /// Nothing where it is wrong; nothing in it where there is no such section.
    fn rejected(&mut self, root: &mut Table<'_>) -> Option<Option<Rejected>> {
        if !root.has("rejected") {
            return Some(None);
        }
        let table = self.section(root, "rejected")?;
        let rejected: Rejected = self.read(&table)?;
        self.problems.extend(rejected.problems(&table));
        Some(Some(rejected))
    }

    fn sources(&mut self, root: &mut Table<'_>) -> Vec<(Range<usize>, Arc<str>, Option<SourceConfig>)> {
        let mut sources = Vec::new();
        for (span, name, table) in self.named(root, "sources") {
            let source = self.collect(SourceConfig::read(&name, table));
            if let Some(source) = source.as_ref().filter(|source| source.secrets.is_empty()) {
                let message = format!("source `{}` has no secret yet: every event gets 503", source.name);
                let help = if source.scheme.answers_without_secret() {
                    "the provider's test of the URL is answered"
                } else {
                    "put it in as soon as the provider shows it"
                };
                self.warnings.push(Problem::new(span.clone(), message).help(help));
            }
            if source.as_ref().is_some_and(|source| !source.redact.is_empty() && source.scheme.digests_body())
            {
                let message =
                    format!("ids of source `{name}` are digests of whole bodies, masked values included");
                let help = "whoever gets a masked event can try values that are short or few until the id fits; \
                            random ones are safe";
                self.warnings.push(Problem::new(span.clone(), message).help(help));
            }
            sources.push((span, name, source));
        }
        if sources.is_empty() {
            let help =
                "[sources.fastpix]\nprovider = \"fastpix\"\nsecrets = [{ env = \"FASTPIX_SIGNING_SECRET\" }]";
            self.warnings.push(Problem::new(0..0, "there is no source: nobody may send").help(help));
        }
        sources
    }

    fn sinks(&mut self, root: &mut Table<'_>, max_size: ByteSize) -> Vec<ReadSink<'r>> {
        let read: Vec<_> = self
            .named(root, "sinks")
            .into_iter()
            .map(|(span, name, table)| self.sink(span, name, table, max_size))
            .collect();
        self.refuse_sharing(&read);
        read
    }

    /// Two sinks that write the same thing would destroy each other's work.
    fn refuse_sharing(&mut self, sinks: &[ReadSink<'_>]) {
        let claims = |sink: &ReadSink<'_>| Some(sink.config.as_ref()?.prepared.claims()?.to_owned());
        for (at, sink) in sinks.iter().enumerate() {
            let Some(claimed) = claims(sink) else { continue };
            if let Some(other) = sinks[..at].iter().find(|other| claims(other).as_ref() == Some(&claimed)) {
                let message = format!("sinks `{}` and `{}` both use {claimed}", other.name, sink.name);
                self.problems
                    .push(Problem::new(sink.span.clone(), message).help("let both routes go to one sink"));
            }
        }
    }

    fn sink(
        &mut self,
        span: Range<usize>,
        name: Arc<str>,
        mut table: Table<'_>,
        max_size: ByteSize,
    ) -> ReadSink<'r> {
        future::refuse(Place::Sink, &mut table, &mut self.problems);
        let unknown = |name| ReadSink { span: span.clone(), name, sink_type: None, config: None };
        let Some((_, sink_type)) = table.take("type") else {
            let known = config::quoted(self.registry.iter().map(SinkType::name));
            self.problems
                .push(Problem::new(table.span(), "a sink needs `type`").help(format!("there are {known}")));
            return unknown(name);
        };
        let Some(text) = sink_type.get_ref().as_str() else {
            self.problems.push(Problem::new(sink_type.span(), "`type` must be a text such as \"file\""));
            return unknown(name);
        };
        let found = match self.registry.get(text) {
            Ok(found) => found,
            Err(error) => {
                self.problems.push(Problem::new(sink_type.span(), error.to_string()));
                return unknown(name);
            }
        };
        let timeout = table.take("publish-timeout").map(|(_, value)| {
            let span = value.span();
            let parsed = value.get_ref().as_str().map(str::parse::<Duration>);
            parsed
                .unwrap_or_else(|| Err("`publish-timeout` must be a text such as \"5s\"".into()))
                .map_err(|e| Problem::new(span, e))
        });
        let publish_timeout =
            self.collect(timeout.unwrap_or(Ok(PUBLISH_TIMEOUT)).map_err(|problem| vec![problem]));
        let share = self.collect(Share::take(&mut table, max_size));
        let prepared = self.collect(found.prepare(&table));
        let complete = publish_timeout.zip(share).zip(prepared);
        let config = complete.map(|((publish_timeout, share), prepared)| SinkConfig {
            name: Arc::clone(&name),
            sink_type: found.name(),
            publish_timeout,
            share,
            prepared,
        });
        ReadSink { span, name, sink_type: Some(found), config }
    }

    fn routes(
        &mut self,
        root: &mut Table<'_>,
        sources: &[(Range<usize>, Arc<str>, Option<SourceConfig>)],
        sinks: &[ReadSink<'_>],
    ) -> Option<Vec<Route>> {
        let source_names: Vec<_> = sources.iter().map(|(_, name, _)| Arc::clone(name)).collect();
        let sink_names: Vec<_> = sinks.iter().map(|sink| (Arc::clone(&sink.name), sink.sink_type)).collect();
        let redactions = super::redactions(sources.iter().filter_map(|(_, _, source)| source.as_ref()));
        let all_known = sources.iter().all(|(_, _, source)| source.is_some());
        let redactions = all_known.then_some(&redactions);
        let names = Names { sources: &source_names, sinks: &sink_names, redactions };
        let Some((span, value)) = root.take("routes") else {
            let help = "[[routes]]\nname = \"all\"\nto = [{ sink = \"NAME\" }]";
            self.warnings.push(
                Problem::new(0..0, "there is no route: every event is answered and ignored").help(help),
            );
            return Some(Vec::new());
        };
        let DeValue::Array(tables) = value.get_ref() else {
            self.problems.push(Problem::new(span, "`routes` is a list: each begins with [[routes]]"));
            return None;
        };
        let mut routes: Vec<route::Placed> = Vec::new();
        for table in tables.iter() {
            let read = match table.get_ref() {
                DeValue::Table(entries) => route::read(Table::new(table.span(), entries.clone()), &names),
                _ => Err(vec![Problem::new(table.span(), "a route is a table")]),
            };
            let Some(mut placed) = self.collect(read) else { continue };
            self.warnings.append(&mut placed.warnings);
            if routes.iter().any(|other| other.route.name == placed.route.name) {
                let message = format!("there are two routes named `{}`", placed.route.name);
                self.problems.push(Problem::new(placed.name.clone(), message));
            }
            routes.push(placed);
        }
        let complete = routes.len() == tables.iter().count();
        if complete {
            self.warn_of_gaps(sources, &routes);
            for (at, sink) in sinks.iter().enumerate() {
                let used = routes.iter().flat_map(|placed| &placed.route.to).any(|target| target.sink == at);
                if !used {
                    let message = format!("no route goes to sink `{}`", sink.name);
                    self.warnings.push(Problem::new(sink.span.clone(), message));
                }
            }
        }
        complete.then(|| routes.into_iter().map(|placed| placed.route).collect())
    }

    /// A source whose events may match no route: they would be answered and ignored.
    fn warn_of_gaps(
        &mut self,
        sources: &[(Range<usize>, Arc<str>, Option<SourceConfig>)],
        routes: &[route::Placed],
    ) {
        for (span, name, _) in sources {
            let mine = || {
                routes
                    .iter()
                    .filter(|placed| placed.route.sources.is_empty() || placed.route.sources.contains(name))
            };
            if mine().next().is_none() {
                let message =
                    format!("no route takes events of source `{name}`: they are answered and ignored");
                self.warnings.push(Problem::new(span.clone(), message));
            } else if !mine().any(|placed| takes_all(&placed.route)) {
                let message = format!(
                    "source `{name}` has no catch-all route: events of other types are answered and ignored"
                );
                self.warnings.push(Problem::new(span.clone(), message).help("add a route without `types`"));
            }
        }
    }

    fn section<'i>(&mut self, root: &mut Table<'i>, key: &str) -> Option<Table<'i>> {
        let (_, value) = root.take(key)?;
        self.table(key, value)
    }

    fn table<'i>(&mut self, key: &str, value: Spanned<DeValue<'i>>) -> Option<Table<'i>> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(entries) => Some(Table::new(span, entries)),
            other => {
                let message = format!("`{key}` must be a table, found {}", other.type_str());
                self.problems.push(Problem::new(span, message));
                None
            }
        }
    }

    /// The tables below `[key.NAME]`, in the order of the file, with the places of their names.
    fn named<'i>(&mut self, root: &mut Table<'i>, key: &str) -> Vec<(Range<usize>, Arc<str>, Table<'i>)> {
        let Some(mut tables) = self.section(root, key) else { return Vec::new() };
        let mut names: Vec<_> = tables.iter().map(|(span, name, _)| (span, Arc::<str>::from(name))).collect();
        names.sort_by_key(|(span, _)| span.start);
        let mut found = Vec::new();
        for (span, name) in names {
            if !is_name(&name) {
                let message = format!("`{name}` is no name: use 1 to 64 of a-z, A-Z, 0-9, `-` and `_`");
                self.problems.push(Problem::new(span.clone(), message));
            }
            let Some((_, value)) = tables.take(&name) else { continue };
            if let Some(table) = self.table(&name, value) {
                found.push((span, name, table));
            }
        }
        found
    }

    fn read<T: serde::de::DeserializeOwned + schemars::JsonSchema>(
        &mut self,
        table: &Table<'_>,
    ) -> Option<T> {
        self.collect(config::read(table))
    }

    fn collect<T>(&mut self, read: Result<T, Vec<Problem>>) -> Option<T> {
        read.map_err(|problems| self.problems.extend(problems)).ok()
    }
}

struct ReadSink<'r> {
    span: Range<usize>,
    name: Arc<str>,
    sink_type: Option<&'r SinkType>,
    config: Option<SinkConfig>,
}

/// Names stand in paths, logs and metrics.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn takes_all(route: &Route) -> bool {
    let excludes = route.types.iter().any(|pattern| pattern.excludes());
    !excludes && (route.types.is_empty() || route.types.iter().any(|pattern| pattern.is_catch_all()))
}
