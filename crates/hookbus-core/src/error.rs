//! Why a sink did not deliver.

use std::{error::Error, fmt, sync::Arc};

/// What went wrong at a sink, in terms every bus shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The destination system cannot be reached or refuses all work.
    Unavailable,
    /// No answer before the deadline; the event may have been taken.
    Timeout,
    /// The destination asks for less: a full queue, a throttle, no memory, no disk space.
    Overloaded,
    /// The credentials were refused.
    Auth,
    /// This address does not exist there, is forbidden, or is of the wrong type.
    Unroutable,
    /// The event is larger than the destination takes.
    TooLarge,
    /// The destination will never take this event, whatever its size.
    InvalidEvent,
    /// The sink was closed.
    Closed,
    /// Something no table foresaw.
    Unexpected,
}

impl ErrorKind {
    /// All kinds, for documentation and metrics.
    pub const ALL: [Self; 9] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::Auth,
        Self::Unroutable,
        Self::TooLarge,
        Self::InvalidEvent,
        Self::Closed,
        Self::Unexpected,
    ];

    /// The class a retry decision starts from.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Self::Unavailable | Self::Timeout | Self::Overloaded | Self::Auth | Self::Closed => {
                RetryClass::Sink
            }
            Self::Unroutable => RetryClass::Address,
            Self::TooLarge | Self::InvalidEvent => RetryClass::Never,
            Self::Unexpected => RetryClass::Event,
        }
    }

    /// The kind in lower-case words, as logs, dead letters and metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Auth => "auth",
            Self::Unroutable => "unroutable",
            Self::TooLarge => "too-large",
            Self::InvalidEvent => "invalid-event",
            Self::Closed => "closed",
            Self::Unexpected => "unexpected",
        }
    }
}

/// How far the trouble reaches, and so what waits for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// The whole sink is in trouble: its lane pauses.
    Sink,
    /// One address is in trouble: it is set aside, the others go on.
    Address,
    /// This event alone is in trouble: it is tried again a few times.
    Event,
    /// No try can help.
    Never,
}

/// A sink's failure: what kind, doing what, where, and the driver's own error as source.
///
/// It never carries a secret or a payload. Cloning shares the source, so that one failure can be told to every
/// event it hit.
#[derive(Clone)]
pub struct SinkError {
    kind: ErrorKind,
    class: RetryClass,
    operation: &'static str,
    sink: Option<Arc<str>>,
    message: Arc<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// An error of `kind` while doing `operation` (`"publish"`, `"connect"`, `"fsync"`), in one line without a
    /// final period.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<Arc<str>>) -> Self {
        Self { kind, class: kind.retry_class(), operation, sink: None, message: message.into(), source: None }
    }

    /// Adds the error this one stems from.
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same trouble, of one address alone: the others may go on. An address in trouble is waited for; only one that
    /// is [`ErrorKind::Unroutable`] is given up in the end.
    pub fn of_address(mut self) -> Self {
        self.class = RetryClass::Address;
        self
    }

    /// Adds the sink's configured name; lanes do this for every error they pass on.
    pub fn at_sink(mut self, sink: &Arc<str>) -> Self {
        self.sink = Some(Arc::clone(sink));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How far the trouble reaches.
    pub fn retry_class(&self) -> RetryClass {
        self.class
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The sink's configured name, once a lane has seen the error.
    pub fn sink(&self) -> Option<&str> {
        self.sink.as_deref()
    }

    /// The message alone, without kind, operation and source.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sink) = &self.sink {
            write!(f, "sink `{sink}`: ")?;
        }
        write!(f, "{} ({}): {}", self.operation, self.kind.as_str(), self.message)?;
        let mut source = self.source();
        // Many errors show their own source; what was said once is not repeated.
        let mut said = self.message.to_string();
        while let Some(error) = source {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkError({self})")
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
