//! The form an event takes at its destination: as it is, in an envelope, with values masked.

use std::{borrow::Cow, collections::HashMap, fmt, str::FromStr, sync::Arc};

use bytes::Bytes;

use crate::{
    VerifiedEvent,
    redaction::{MASK, Masked, Redaction, Unmaskable},
};

/// How an event and its attributes are put together (the content modes of CloudEvents).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The body as it is, with the attributes beside it.
    #[default]
    Binary,
    /// One JSON document (`application/cloudevents+json`) that holds attributes, proof and body.
    Structured,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Binary, Self::Structured];

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Structured => "structured",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|format| format.as_str() == text);
        known.ok_or("there are `binary` and `structured`")
    }
}

/// The form of an event at an address. The default is the event as it came, in binary mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    format: Format,
    redaction: Option<Redaction>,
}

impl Form {
    /// This format, nothing masked.
    pub const fn new(format: Format) -> Self {
        Self { format, redaction: None }
    }

    /// With these values masked; where it masks already, those are replaced.
    #[must_use]
    pub fn redacted(self, redaction: Option<Redaction>) -> Self {
        Self { redaction: redaction.filter(|redaction| !redaction.is_empty()), ..self }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What is masked.
    pub fn redaction(&self) -> Option<&Redaction> {
        self.redaction.as_ref()
    }

    /// Whether the event is put there as it came, in binary mode.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// What must not be seen of the events of each source, by its name.
#[derive(Clone, Debug, Default)]
pub struct Redactions(HashMap<Arc<str>, Redaction>);

impl Redactions {
    /// What must not be seen of this source's events.
    pub fn of(&self, source: &str) -> Option<&Redaction> {
        self.0.get(source)
    }

    /// The event as people may see it: masked, and where that cannot be done, without its body.
    #[must_use]
    pub fn shown(&self, event: &VerifiedEvent) -> VerifiedEvent {
        self.of(event.source()).map_or_else(|| event.clone(), |redaction| event.masked(redaction))
    }
}

impl FromIterator<(Arc<str>, Redaction)> for Redactions {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Redaction)>>(each: I) -> Self {
        Self(each.into_iter().filter(|(_, redaction)| !redaction.is_empty()).collect())
    }
}

/// What a view of an event shows in place of what was received.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) masked: Option<MaskedBody>,
    /// The structured form, where the event is shown as that.
    pub(crate) envelope: Option<Bytes>,
}

#[derive(Clone)]
pub(crate) struct MaskedBody {
    pub(crate) body: Bytes,
    /// The pointers as a JSON array.
    pub(crate) pointers: Box<str>,
}

impl VerifiedEvent {
    /// The event in this form, as a sink puts it at its destination: body, attributes, proof and content type are
    /// those of the form. It is a view: a record of it holds the event as it was received.
    ///
    /// Masking leaves no proof behind, and names the pointers in the attribute `hookbusredacted`; where there is nothing
    /// to mask the event stays as it is. A body that cannot be masked ([`VerifiedEvent::can_be_masked`]) is hidden as a
    /// whole.
    #[must_use]
    pub fn in_form(&self, form: &Form) -> Self {
        let masked = form.redaction().map_or_else(|| self.clone(), |redaction| self.masked(redaction));
        match form.format() {
            Format::Binary => masked,
            Format::Structured => masked.enveloped(),
        }
    }

    /// The event with these values masked, beside those that are already.
    #[must_use]
    pub fn masked(&self, redaction: &Redaction) -> Self {
        let mut view = self.view().cloned().unwrap_or_default();
        let body = view.masked.as_ref().map_or(&self.inner().body, |masked| &masked.body);
        let masked = match self.can_be_masked().and_then(|()| redaction.mask(body)) {
            Ok(Masked { body: Cow::Borrowed(_), .. }) => return self.clone(),
            Ok(Masked { body: Cow::Owned(body), pointers }) => (Bytes::from(body), pointers),
            // The pointer to the whole document.
            Err(_) => (Bytes::from_static(MASK.as_bytes()), vec![Box::default()]),
        };
        let (body, mut pointers) = masked;
        if let Some(before) = &view.masked {
            let before: Vec<Box<str>> = serde_json::from_str(&before.pointers).unwrap_or_default();
            pointers.extend(before);
            pointers.sort();
            pointers.dedup();
        }
        // A list of texts is always JSON.
        let pointers = serde_json::to_string(&pointers).unwrap_or_default().into();
        view.masked = Some(MaskedBody { body, pointers });
        let enveloped = view.envelope.take().is_some();
        let masked = self.with_view(view);
        if enveloped { masked.enveloped() } else { masked }
    }

    /// Whether values of the body can be masked, as far as its head tells.
    ///
    /// # Errors
    /// [`Unmaskable::Encoded`]. Whether it is JSON, [`Redaction::mask`] tells.
    pub fn can_be_masked(&self) -> Result<(), Unmaskable> {
        let encoding = self.inner().content_encoding.as_ref().map(http::HeaderValue::as_bytes);
        match encoding {
            Some(encoding)
                if !encoding.eq_ignore_ascii_case(b"identity") && !self.inner().body.is_empty() =>
            {
                Err(Unmaskable::Encoded)
            }
            _ => Ok(()),
        }
    }

    fn enveloped(&self) -> Self {
        let mut envelope = Vec::with_capacity(self.body().len() + 768);
        self.write_message(&mut envelope);
        let view = View { envelope: Some(envelope.into()), ..self.view().cloned().unwrap_or_default() };
        self.with_view(view)
    }
}
