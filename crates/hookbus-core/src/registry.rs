//! Which types of sink there are, by the name a configuration gives as `type`.

use std::{collections::BTreeMap, fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{
    ErrorKind, Format, Secret, SecretRef, Sink, SinkError,
    config::{self, Problem, Table},
    nearest,
    sink::AddressKey,
};

/// What a sink's author writes; everything the registry needs is derived from it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink plugin",
    note = "see `hookbus_core::SinkPlugin`"
)]
pub trait SinkPlugin: Send + Sync + 'static {
    /// The `type` in a configuration, such as `kafka`: also the crate's suffix and the feature's name.
    const TYPE: &'static str;

    /// The keys of an address at such a sink, in the order they are shown.
    const ADDRESS: &'static [AddressKey];

    /// The formats an event can have there, the one it has where a route does not say first. A sink that puts
    /// [`Envelope::event`](crate::Envelope::event)'s body, attributes and proof where they belong does both without
    /// knowing; one that has a layout of its own says which one that is.
    const FORMATS: &'static [Format] = &Format::ALL;

    /// The keys of a `[sinks.NAME]` table beside `type`. Use `deny_unknown_fields`, kebab-case names and a doc
    /// comment on each field: the JSON Schema and the error messages come from them.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Checks what types cannot say. Pure: no sockets, files, clocks or environment.
    ///
    /// # Errors
    /// The key at fault and what is wrong with it.
    fn validate(config: &Self::Config) -> Result<(), Invalid> {
        let _ = config;
        Ok(())
    }

    /// What no second sink may use beside this one, in words that name it, such as `the folder events`. Pure.
    fn claims(config: &Self::Config) -> Option<String> {
        let _ = config;
        None
    }

    /// The credentials it refers to, so that `hookbus check` can say which cannot be had. Pure. The sink itself asks
    /// [`SinkContext::secret`] each time it connects, so that one that was changed counts from then on.
    fn credentials(config: &Self::Config) -> Vec<&SecretRef> {
        let _ = config;
        Vec::new()
    }

    /// Opens the sink. Called once at start; a destination that cannot be reached is no
    /// reason to fail: the lane finds out and waits for it. An error ends the start.
    fn connect(
        config: Self::Config,
        context: SinkContext,
    ) -> impl Future<Output = Result<Box<dyn Sink>, SinkError>> + Send;
}

/// A value that [`SinkPlugin::validate`] refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key in the sink's table.
    pub key: &'static str,
    /// What is wrong, as one line without a final period.
    pub message: String,
}

/// What a sink gets to know about its place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkContext {
    /// The name in `[sinks.NAME]`.
    pub name: Arc<str>,
    /// The folder relative paths start from: the one the configuration file is in.
    pub base: PathBuf,
}

impl SinkContext {
    /// The context of a sink of this name, whose relative paths start from `base`.
    pub fn new(name: &str, base: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), base: base.into() }
    }

    /// Reads a credential.
    ///
    /// # Errors
    /// A [`SinkError`] of the kind [`ErrorKind::Auth`], which shows nothing of it.
    pub fn secret(&self, reference: &SecretRef) -> Result<Secret, SinkError> {
        reference.resolve(&self.base).map_err(|error| {
            SinkError::new(ErrorKind::Auth, "connect", "a credential cannot be had").with_source(error)
        })
    }
}

/// A future that opens a sink.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn Sink>, SinkError>> + Send>>;

/// A sink whose configuration was read and checked; nothing has been opened yet.
pub struct Prepared {
    connect: Box<dyn FnOnce(SinkContext) -> Connecting + Send + Sync>,
    claims: Option<String>,
    credentials: Vec<SecretRef>,
}

impl Prepared {
    /// Opens the sink.
    pub fn connect(self, context: SinkContext) -> Connecting {
        (self.connect)(context)
    }

    /// What no second sink may use beside this one.
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// The credentials it refers to.
    pub fn credentials(&self) -> &[SecretRef] {
        &self.credentials
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared(..)")
    }
}

/// One type of sink, as the registry keeps it.
pub struct SinkType {
    name: &'static str,
    address: &'static [AddressKey],
    formats: &'static [Format],
    schema: fn() -> schemars::Schema,
    read: Box<Reader>,
}

type Reader = dyn Fn(&Table<'_>) -> Result<Prepared, Vec<Problem>> + Send + Sync;

impl SinkType {
    /// The `type` in a configuration.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The keys of its addresses.
    pub fn address(&self) -> &'static [AddressKey] {
        self.address
    }

    /// The formats an event can have there, the default first.
    pub fn formats(&self) -> &'static [Format] {
        self.formats
    }

    /// JSON Schema of its configuration.
    pub fn schema(&self) -> schemars::Schema {
        (self.schema)()
    }

    /// Reads and checks a `[sinks.NAME]` table without its `type`.
    ///
    /// # Errors
    /// Every problem in it, with its place.
    pub fn prepare(&self, table: &Table<'_>) -> Result<Prepared, Vec<Problem>> {
        (self.read)(table)
    }
}

impl fmt::Debug for SinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkType({})", self.name)
    }
}

/// The types of sink that a bridge knows. A value that is passed on: there is no global one.
#[derive(Debug, Default)]
pub struct SinkRegistry {
    types: BTreeMap<&'static str, SinkType>,
    /// Types that exist but are not compiled in, with the feature that adds them.
    absent: BTreeMap<&'static str, &'static str>,
}

/// Why a type could not be registered or found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// Two plugins want the same name.
    #[error("a sink type `{0}` is registered already")]
    Duplicate(&'static str),
    /// The type exists, but this program was built without it.
    #[error("sink type `{name}` is not compiled in; build with `--features {feature}`")]
    NotCompiledIn {
        /// The type asked for.
        name: String,
        /// The feature that adds it.
        feature: &'static str,
    },
    /// There is no such type.
    #[error("there is no sink type `{name}`{}; there are {}", hint(.nearest), list(.known))]
    Unknown {
        /// The type asked for.
        name: String,
        /// The name nearest to it.
        nearest: Option<&'static str>,
        /// What is registered.
        known: Vec<&'static str>,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

fn list(names: &[&'static str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl SinkRegistry {
    /// A registry that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a plugin under its type.
    ///
    /// # Errors
    /// [`RegistryError::Duplicate`] where the name is taken.
    pub fn register_plugin<P: SinkPlugin>(&mut self) -> Result<(), RegistryError> {
        self.insert(SinkType {
            name: P::TYPE,
            address: P::ADDRESS,
            formats: P::FORMATS,
            schema: || schemars::schema_for!(P::Config),
            read: Box::new(|table| {
                let config: P::Config = config::read(table)?;
                P::validate(&config)
                    .map_err(|invalid| vec![table.problem_at(invalid.key, invalid.message)])?;
                let claims = P::claims(&config);
                let credentials = P::credentials(&config).into_iter().cloned().collect();
                Ok(Prepared {
                    connect: Box::new(move |context| Box::pin(P::connect(config, context))),
                    claims,
                    credentials,
                })
            }),
        })
    }

    /// Adds a type that has no configuration and no addresses: every sink of it is the one given here.
    ///
    /// # Errors
    /// [`RegistryError::Duplicate`] where the name is taken.
    pub fn register(&mut self, name: &'static str, sink: impl Sink) -> Result<(), RegistryError> {
        let sink: Arc<dyn Sink> = Arc::new(sink);
        self.insert(SinkType {
            name,
            address: &[],
            formats: &Format::ALL,
            schema: || schemars::schema_for!(config::Empty),
            read: Box::new(move |table| {
                let _: config::Empty = config::read(table)?;
                let sink = Arc::clone(&sink);
                let connect: Box<dyn FnOnce(SinkContext) -> Connecting + Send + Sync> = Box::new(move |_| {
                    Box::pin(async move { Ok(Box::new(crate::sink::SharedSink(sink)) as Box<dyn Sink>) })
                });
                Ok(Prepared { connect, claims: None, credentials: Vec::new() })
            }),
        })
    }

    /// Notes a type that exists but is not compiled in, so that an error can name the feature.
    pub fn note_absent(&mut self, name: &'static str, feature: &'static str) {
        self.absent.insert(name, feature);
    }

    /// The type of this name.
    ///
    /// # Errors
    /// [`RegistryError::NotCompiledIn`] or [`RegistryError::Unknown`], which list what would help.
    pub fn get(&self, name: &str) -> Result<&SinkType, RegistryError> {
        if let Some(found) = self.types.get(name) {
            return Ok(found);
        }
        if let Some(feature) = self.absent.get(name) {
            return Err(RegistryError::NotCompiledIn { name: name.to_owned(), feature });
        }
        let nearest = nearest(name, self.types.keys().copied());
        let nearest = nearest.and_then(|found| self.types.get_key_value(found)).map(|(name, _)| *name);
        Err(RegistryError::Unknown {
            name: name.to_owned(),
            nearest,
            known: self.types.keys().copied().collect(),
        })
    }

    /// All types, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &SinkType> {
        self.types.values()
    }

    /// The types that exist but are not compiled in, each with the feature that adds it, sorted by name.
    pub fn absent(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.absent.iter().map(|(name, feature)| (*name, *feature))
    }

    fn insert(&mut self, sink_type: SinkType) -> Result<(), RegistryError> {
        match self.types.entry(sink_type.name) {
            std::collections::btree_map::Entry::Occupied(_) => Err(RegistryError::Duplicate(sink_type.name)),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(sink_type);
                Ok(())
            }
        }
    }
}
