//! A request that says who sent it, and the proof.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{
    HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{
    HandshakeAnswer, Refusal, RequestHead, Verifier, clock,
    handshake::{Asked, Handshakes, could_be_challenge},
    header::Candidate,
    key::{Key, to_hex},
    scheme::{Algorithm, Knobs},
    template::{Part, SignedValues},
    verifier::{HeadTime, Place},
};
use crate::{
    EventId, EventTime, IdOrigin, VerifiedEvent,
    event::{Inner, ProofHeaders},
    json::Values,
};

/// What an authentic request is.
#[derive(Debug)]
pub enum Received {
    /// Something to be published.
    Event(VerifiedEvent),
    /// A test of the URL: to be answered, never to be published.
    Handshake(HandshakeAnswer),
}

/// A request whose head is well formed: all that is missing is the proof against its body.
pub struct Claim<'a> {
    verifier: &'a Verifier,
    head: RequestHead<'a>,
    candidates: SmallVec<[Candidate; 1]>,
    ts: &'a [u8],
    time: HeadTime,
    id: &'a [u8],
}

impl<'a> Claim<'a> {
    pub(super) fn new(
        verifier: &'a Verifier,
        head: RequestHead<'a>,
        candidates: SmallVec<[Candidate; 1]>,
        ts: &'a [u8],
        time: HeadTime,
        id: &'a [u8],
    ) -> Self {
        Self { verifier, head, candidates, ts, time, id }
    }

    /// Proves the claim against the body, which becomes the event's body untouched.
    ///
    /// `now` is when the request arrived: the timestamp window is measured against it. What was received from a
    /// provider goes through [`Claim::receive`]; this is for what is known to be an event.
    ///
    /// # Errors
    /// [`Refusal::SignatureMismatch`]; for an authentic request also the reasons about its timestamp.
    pub fn verify(self, body: Bytes, now: SystemTime) -> Result<VerifiedEvent, Refusal> {
        let url = self.signed_url();
        self.check_signature(&body, url.as_deref().unwrap_or_default())?;
        let inner = self.read(&self.verifier.places.pointers.read(&body), &body, url, now)?;
        Ok(VerifiedEvent::seal(Inner { body, ..inner }))
    }

    /// Proves the claim like [`Claim::verify`], and tells a handshake from an event.
    ///
    /// # Errors
    /// Those of [`Claim::verify`]; for an authentic handshake also that it has no challenge that is answered.
    pub fn receive(self, body: Bytes, now: SystemTime) -> Result<Received, Refusal> {
        let Some(handshakes) = self.knobs().handshake else {
            return self.verify(body, now).map(Received::Event);
        };
        let url = self.signed_url();
        let key = self.check_signature(&body, url.as_deref().unwrap_or_default())?;
        let inner = {
            let values = self.verifier.places.pointers.read(&body);
            self.check_window(&values, now)?;
            let body_says = Some((&self.verifier.places.handshake, &values));
            let asked = Asked { head: self.head, body: body_says, verify_token: None, key: Some(key) };
            if let Some(answer) = handshakes.by_body(&asked)? {
                return Ok(Received::Handshake(answer));
            }
            self.read(&values, &body, url, now)?
        };
        Ok(Received::Event(VerifiedEvent::seal(Inner { body, ..inner })))
    }

    /// Reads what an authentic body says; everything of the event but the body itself.
    fn read(
        &self,
        values: &Values<'_>,
        body: &[u8],
        url: Option<String>,
        now: SystemTime,
    ) -> Result<Inner, Refusal> {
        let ts = self.check_window(values, now)?;
        Ok(Reading { claim: self, values, body }.event(ts, now, url))
    }

    fn knobs(&self) -> &'a Knobs {
        &self.verifier.scheme.knobs
    }

    /// The public URL with this request's query, where the scheme signs it.
    fn signed_url(&self) -> Option<String> {
        let signed = self.knobs().signed.has(&Part::Url);
        let url = signed.then(|| self.verifier.public_url.clone().unwrap_or_default())?;
        Some(match self.head.query {
            Some(query) => format!("{url}?{query}"),
            None => url,
        })
    }

    /// The first key the signature belongs to.
    fn check_signature(&self, body: &[u8], url: &str) -> Result<&'a Key, Refusal> {
        let knobs = self.knobs();
        let method = self.head.method.as_str().as_bytes();
        let values = SignedValues { body, ts: self.ts, id: self.id, url: url.as_bytes(), method };
        // Whoever asks for a handshake gets such bytes signed, so a signature of them proves nothing.
        let asked_for = knobs.handshake.is_some_and(Handshakes::returns_mac)
            && could_be_challenge(knobs.signed.pieces(values));
        // Every key is tried, also after one has matched, so that the time taken does not tell which it was.
        let mut authentic = None;
        for (index, key) in &self.verifier.keys {
            let mine =
                |candidate: &&Candidate| !knobs.sig.pairwise || usize::from(candidate.header) == *index;
            let accepts = key.accepts(self.candidates.iter().filter(mine), knobs.signed.pieces(values));
            authentic = authentic.or(accepts.then_some(key));
        }
        authentic.filter(|_| !asked_for).ok_or(Refusal::SignatureMismatch)
    }

    /// The time of the signature, once it is known to be within the window.
    fn check_window(&self, values: &Values<'_>, now: SystemTime) -> Result<Option<EventTime>, Refusal> {
        let Some(rule) = &self.knobs().ts else { return Ok(None) };
        let time = match self.verifier.places.ts {
            Some(slot) => values.get(slot).and_then(|text| clock::read(rule.unit, text)),
            None => self.time,
        };
        let time = time.ok_or(Refusal::MalformedTimestamp)?;
        clock::check_window(rule, time, now)?;
        Ok(Some(time))
    }
}

/// Reads the attributes of an authentic request.
struct Reading<'r, 'a, 'v> {
    claim: &'r Claim<'a>,
    values: &'r Values<'v>,
    body: &'r [u8],
}

/// A value and whether the signature covers it.
struct Attribute {
    text: Box<str>,
    signed: bool,
    digest: bool,
}

impl Reading<'_, '_, '_> {
    /// Everything but the body, which the caller puts in.
    fn event(&self, ts: Option<EventTime>, received: SystemTime, url: Option<String>) -> Inner {
        let Claim { verifier, head, .. } = self.claim;
        let (knobs, places) = (self.claim.knobs(), &verifier.places);
        let mut unsigned: SmallVec<[&'static str; 6]> = SmallVec::new();
        let mut take = |name: &'static str, places: &[Place]| {
            let found = places.iter().find_map(|place| self.value(place))?;
            if !found.signed {
                unsigned.push(name);
            }
            Some(found)
        };
        let id = take("id", &places.id);
        let event_type = take("type", &places.event_type);
        let subject = take("subject", &places.subject);
        let unit = knobs.time.as_ref().map(|time| time.unit);
        let time = places.time.iter().find_map(|place| {
            let found = self.value(place)?;
            Some((clock::read(unit?, &found.text)?, found.signed))
        });
        if time.is_some_and(|(_, signed)| !signed) {
            unsigned.push("time");
        }
        let readable =
            |name| head.headers.get(name).filter(|value: &&HeaderValue| value.to_str().is_ok()).cloned();
        let content_type = readable(CONTENT_TYPE);
        if content_type.is_some() {
            unsigned.push("datacontenttype");
        }
        let content_encoding = readable(CONTENT_ENCODING);
        if content_encoding.is_some() {
            unsigned.push("contentencoding");
        }
        if knobs.alg == Algorithm::Equality {
            unsigned.push("data");
        }
        Inner {
            source: Arc::clone(&verifier.source),
            id: event_id(id),
            event_type: event_type.map(|found| found.text),
            subject: subject.map(|found| found.text),
            time: time.map(|(time, _)| time).or(ts),
            received,
            proof: self.proof(),
            content_type,
            content_encoding,
            unsigned: Arc::from(unsigned.as_slice()),
            signed_method: knobs.signed.has(&Part::Method).then(|| head.method.as_str().into()),
            signed_url: url.map(String::into_boxed_str),
            many: places.many.is_some_and(|slot| self.values.elements(slot) != Some(1)),
            body: Bytes::new(),
        }
    }

    fn value(&self, place: &Place) -> Option<Attribute> {
        let knobs = self.claim.knobs();
        let proves_body = knobs.alg != Algorithm::Equality;
        match place {
            Place::Json(slot) => self.values.get(*slot).map(|text| Attribute {
                text: text.into(),
                signed: proves_body,
                digest: false,
            }),
            Place::Header(name) => {
                let text = self.claim.head.headers.get(name)?.to_str().ok()?.trim();
                let signed =
                    proves_body && knobs.signed.has(&Part::Id) && knobs.id.headers().any(|id| id == name);
                (!text.is_empty()).then(|| Attribute { text: text.into(), signed, digest: false })
            }
            Place::Sha256 => {
                let digest = format!("digest:{}", to_hex(&Sha256::digest(self.body)));
                Some(Attribute { text: digest.into(), signed: proves_body, digest: true })
            }
            Place::Const(text) => Some(Attribute { text: text.clone(), signed: true, digest: false }),
        }
    }

    fn proof(&self) -> ProofHeaders {
        let headers = self.claim.head.headers;
        let present = |name: &http::HeaderName| Some((name.clone(), headers.get(name)?.clone()));
        self.claim.verifier.proof.iter().filter_map(present).collect()
    }
}

fn event_id(found: Option<Attribute>) -> EventId {
    match found {
        Some(Attribute { text, digest, .. }) => {
            EventId { text, origin: if digest { IdOrigin::Digest } else { IdOrigin::Provider } }
        }
        None => EventId { text: uuid::Uuid::now_v7().to_string().into(), origin: IdOrigin::Made },
    }
}
