//! A scheme with the secrets of one source.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, Method};
use smallvec::SmallVec;

use super::{
    Claim, HandshakeAnswer, Refusal, Scheme, UnsignedProbe, clock,
    handshake::{Asked, Handshakes, Slots, VerifyToken},
    header,
    key::Key,
    locate::{Locator, Locators},
    template::Part,
};
use crate::{
    EventTime, Secret,
    json::{Pointer, PointerSet},
};

/// Proves requests of one source: its scheme with its secrets.
///
/// Several secrets may be configured at once, so that one can be rotated out: any of them may match. A secret that
/// is unusable disables no other.
pub struct Verifier {
    pub(super) source: Arc<str>,
    pub(super) scheme: Arc<Scheme>,
    pub(super) keys: Vec<(usize, Key)>,
    pub(super) public_url: Option<String>,
    pub(super) places: Places,
    pub(super) proof: Vec<HeaderName>,
    pub(super) verify_token: Option<VerifyToken>,
}

/// The head of a request, as far as verification looks at it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method; some schemes sign it.
    pub method: &'a Method,
    /// The query, appended to the configured public URL where a scheme signs that. Never the `Host` header.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// What the head of a request turned out to be.
pub enum Examined<'a> {
    /// A well-formed claim to be proved against the body.
    Claim(Claim<'a>),
    /// Unsigned, from a provider that tests the URL unsigned: only its body can tell.
    MaybeProbe(UnsignedProbe),
    /// A handshake: to be answered, and that is all.
    Handshake(HandshakeAnswer),
}

/// A secret that cannot be used as a key, by its place in the list, and why. It shows none of the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableSecret {
    /// Its place in the list of secrets, from 0.
    pub index: usize,
    /// What is wrong with it, as the end of a sentence that begins with the secret.
    pub why: &'static str,
}

impl Verifier {
    /// Makes the keys ready. The second value lists the secrets that cannot be used; the others still count.
    pub fn new(
        source: &str,
        scheme: Arc<Scheme>,
        public_url: Option<String>,
        secrets: &[Secret],
    ) -> (Self, Vec<UnusableSecret>) {
        let (mut keys, mut unusable) = (Vec::new(), Vec::new());
        let knobs = &scheme.knobs;
        for (index, secret) in secrets.iter().enumerate() {
            if knobs.sig.pairwise && index >= knobs.sig.headers.len() {
                unusable.push(UnusableSecret {
                    index,
                    why: "this scheme has one secret for each signature header",
                });
                continue;
            }
            match Key::new(scheme.knobs.alg, &scheme.knobs.key, secret) {
                Ok(key) => keys.push((index, key)),
                Err(why) => unusable.push(UnusableSecret { index, why }),
            }
        }
        let places = Places::new(&scheme);
        let proof = scheme.proof_headers();
        (
            Self { source: source.into(), scheme, keys, public_url, places, proof, verify_token: None },
            unusable,
        )
    }

    /// Answers handshakes of providers that prove themselves by a token that was agreed on.
    #[must_use]
    pub fn with_verify_token(self, token: &Secret) -> Self {
        Self { verify_token: Some(VerifyToken::new(token)), ..self }
    }

    /// The source this verifier belongs to.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The scheme it applies.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Whether any secret is usable; without one every event is refused with [`Refusal::InvalidSecret`].
    pub fn has_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Reads the head of a request, before its body: everything but the signature itself.
    ///
    /// # Errors
    /// The first [`Refusal`] in the order the module describes.
    pub fn examine<'a>(&'a self, head: RequestHead<'a>) -> Result<Examined<'a>, Refusal> {
        let knobs = &self.scheme.knobs;
        if let Some(handshakes) = knobs.handshake {
            let (verify_token, key) = (self.verify_token.as_ref(), self.keys.first().map(|(_, key)| key));
            if let Some(answer) = handshakes.by_head(&Asked { head, body: None, verify_token, key })? {
                return Ok(Examined::Handshake(answer));
            }
            let unsigned = || knobs.sig.headers.iter().all(|header| !head.headers.contains_key(&header.0));
            if let Some(probe) = handshakes.unsigned_probe().filter(|_| unsigned()) {
                return Ok(Examined::MaybeProbe(probe));
            }
        }
        if !self.has_key() {
            return Err(Refusal::InvalidSecret);
        }
        for (name, expected) in &knobs.require {
            let name = name.parse().map_err(|_| Refusal::MissingHeader)?;
            match header::unique(head.headers, &name)? {
                None => return Err(Refusal::MissingHeader),
                Some(value) if value != expected.as_bytes() => return Err(Refusal::UnsupportedVersion),
                Some(_) => {}
            }
        }
        let field = knobs.ts.as_ref().and_then(|ts| match &ts.from {
            Locator::Field(tag) => Some(&**tag),
            _ => None,
        });
        let ts_header = match knobs.ts.as_ref().map(|ts| &ts.from) {
            Some(Locator::Header(name)) => {
                Some(header::unique(head.headers, name)?.ok_or(Refusal::MissingHeader)?)
            }
            _ => None,
        };
        let id = match knobs.id.0.first() {
            Some(Locator::Header(name)) if knobs.signed.has(&Part::Id) => {
                header::unique(head.headers, name)?.ok_or(Refusal::MissingHeader)?
            }
            _ => b"",
        };
        // Headers the event's attributes come from: whoever added a second one must not choose which counts.
        // They travel with the event as text, so they have to be text.
        for name in &self.proof {
            if header::unique(head.headers, name)?
                .is_some_and(|value| !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')))
            {
                return Err(Refusal::MalformedHeader);
            }
        }
        let signature = header::read(knobs, head.headers, field)?;
        let ts = ts_header.or(signature.field);
        let time = match (&knobs.ts, ts) {
            (Some(rule), Some(text)) => {
                let text = std::str::from_utf8(text).map_err(|_| Refusal::MalformedTimestamp)?;
                Some(clock::read(rule.unit, text).ok_or(Refusal::MalformedTimestamp)?)
            }
            _ => None,
        };
        Ok(Examined::Claim(Claim::new(self, head, signature.candidates, ts.unwrap_or_default(), time, id)))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("source", &self.source)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Where the attributes stand, with all JSON places compiled into one pass.
pub(super) struct Places {
    pub(super) pointers: PointerSet,
    pub(super) id: SmallVec<[Place; 2]>,
    pub(super) event_type: SmallVec<[Place; 2]>,
    pub(super) subject: SmallVec<[Place; 2]>,
    pub(super) time: SmallVec<[Place; 2]>,
    pub(super) ts: Option<usize>,
    pub(super) many: Option<usize>,
    pub(super) handshake: Slots,
}

pub(super) enum Place {
    Header(HeaderName),
    Json(usize),
    Sha256,
    Const(Box<str>),
}

impl Places {
    fn new(scheme: &Scheme) -> Self {
        let knobs = &scheme.knobs;
        let mut pointers = PointerSet::default();
        let mut compile = |locators: &Locators| {
            let place = |locator: &Locator| match locator {
                Locator::Header(name) => Some(Place::Header(name.clone())),
                Locator::Json(pointer) => Some(Place::Json(pointers.add(pointer))),
                Locator::Sha256 => Some(Place::Sha256),
                Locator::Const(text) => Some(Place::Const(text.clone())),
                Locator::Field(_) => None,
            };
            locators.0.iter().filter_map(place).collect()
        };
        let (id, event_type, subject) =
            (compile(&knobs.id), compile(&knobs.event_type), compile(&knobs.subject));
        let time = knobs.time.as_ref().map(|time| compile(&time.from)).unwrap_or_default();
        let ts = knobs.ts.as_ref().and_then(|ts| match &ts.from {
            Locator::Json(pointer) => Some(pointers.add(pointer)),
            _ => None,
        });
        // Invariant: `Scheme::check` has read this pointer before.
        let many = knobs.many.as_deref().and_then(|many| Pointer::parse(many).ok());
        let many = many.map(|pointer| pointers.add(&pointer));
        let told_by = knobs.handshake.into_iter().flat_map(Handshakes::pointers);
        // Invariant: a test of the table reads these.
        let slot = |text| Some((text, pointers.add(&Pointer::parse(text).ok()?)));
        let handshake = Slots(told_by.filter_map(slot).collect());
        Self { pointers, id, event_type, subject, time, ts, many, handshake }
    }
}

/// The time of the signature, as read from the head.
pub(super) type HeadTime = Option<EventTime>;
