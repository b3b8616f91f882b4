//! One handshake as data, and what makes a request one.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, Method, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::{HandshakeAnswer, RequestHead, query};
use crate::{
    Secret,
    json::Values,
    verify::{
        Refusal, header,
        key::{Key, to_hex},
    },
};

/// A row of the table.
pub(super) struct Rule {
    /// What logs call it.
    pub(super) kind: &'static str,
    pub(super) by: By,
    /// What must hold beside that for a request to be this handshake.
    pub(super) when: &'static [Condition],
    /// The query parameter with the token that was agreed on.
    pub(super) verify_token: Option<&'static str>,
    pub(super) challenge: Option<Challenge>,
    pub(super) reply: Reply,
}

/// How it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// An unsigned GET.
    Get,
    /// An unsigned GET or POST.
    GetOrPost,
    /// An unsigned POST whose body is empty or `{}`.
    EmptyPost,
    /// A POST, signed like an event.
    SignedPost,
}

impl By {
    /// Whether the head of such a request tells all.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Get => method == Method::GET,
            Self::GetOrPost => method == Method::GET || method == Method::POST,
            Self::EmptyPost | Self::SignedPost => false,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Condition {
    Is(Place, &'static str),
    Absent(Place),
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A parameter of the query, decoded.
    Query(&'static str),
    /// A header, by its name in lower case.
    Header(&'static str),
    /// A JSON pointer into the body.
    Json(&'static str),
}

/// The text that is to be returned.
pub(super) struct Challenge {
    pub(super) at: Place,
    pub(super) form: Form,
}

/// What a challenge may look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[A-Za-z0-9_-]{1,64}`: the only one that is signed, or stands inside JSON.
    Token,
    /// Up to 512 letters, digits, blanks and `-._~:/+=,`: no character that begins anything in HTML.
    Text,
}

impl Form {
    fn fits(self, text: &str) -> bool {
        match self {
            Self::Token => could_be_challenge([text.as_bytes()].into_iter()),
            Self::Text => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" -._~:/+=,".contains(&byte);
                (1..=512).contains(&text.len()) && text.bytes().all(allowed)
            }
        }
    }
}

/// What is answered.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: &'static [Piece],
}

pub(super) enum Piece {
    Text(&'static str),
    Challenge,
    /// The HMAC-SHA256 of the challenge, in lower-case hex.
    MacHex,
    /// The same in base64.
    MacBase64,
}

/// Whether bytes have the form of what a handshake signs. No event under the same key may have it.
pub(in crate::verify) fn could_be_challenge<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut len = 0;
    for piece in pieces {
        len += piece.len();
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if len > 64 || !piece.iter().all(token) {
            return false;
        }
    }
    len > 0
}

/// The token that was agreed on with a provider: its digest, so that a comparison takes the same time for every length.
pub(in crate::verify) struct VerifyToken([u8; 32]);

impl VerifyToken {
    pub(in crate::verify) fn new(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }

    fn is(&self, given: &str) -> bool {
        self.0.ct_eq(&Sha256::digest(given.as_bytes())).into()
    }
}

/// Where the values that handshakes are told by stand among those read from a body.
pub(in crate::verify) struct Slots(pub(in crate::verify) Vec<(&'static str, usize)>);

/// A request that may be a handshake, with what it is held against.
pub(in crate::verify) struct Asked<'a, 'v> {
    pub(in crate::verify) head: RequestHead<'a>,
    /// What an authentic body says; nothing before it is known to be authentic.
    pub(in crate::verify) body: Option<(&'a Slots, &'a Values<'v>)>,
    pub(in crate::verify) verify_token: Option<&'a VerifyToken>,
    /// The key a MAC is made with.
    pub(in crate::verify) key: Option<&'a Key>,
}

impl Asked<'_, '_> {
    fn find(&self, place: Place) -> Result<Option<Cow<'_, str>>, Refusal> {
        match place {
            Place::Query(name) => query::unique(self.head.query.unwrap_or_default(), name),
            Place::Header(name) => {
                let value = header::unique(self.head.headers, &HeaderName::from_static(name))?;
                let text = value.map(std::str::from_utf8).transpose();
                Ok(text.map_err(|_| Refusal::MalformedHeader)?.map(Cow::Borrowed))
            }
            Place::Json(pointer) => Ok(self.body.and_then(|(slots, values)| {
                let (_, slot) = slots.0.iter().find(|(known, _)| *known == pointer)?;
                values.get(*slot).map(Cow::Borrowed)
            })),
        }
    }
}

impl Rule {
    pub(super) fn returns_mac(&self) -> bool {
        self.reply.body.iter().any(|piece| matches!(piece, Piece::MacHex | Piece::MacBase64))
    }

    pub(super) fn pointers(&self) -> impl Iterator<Item = &'static str> {
        let when = self.when.iter().map(|condition| match condition {
            Condition::Is(place, _) | Condition::Absent(place) => *place,
        });
        when.chain(self.challenge.iter().map(|challenge| challenge.at)).filter_map(|place| match place {
            Place::Json(pointer) => Some(pointer),
            Place::Query(_) | Place::Header(_) => None,
        })
    }

    /// The answer where a request is this handshake; nothing where it is something else.
    pub(super) fn examine(&self, asked: &Asked<'_, '_>) -> Result<Option<HandshakeAnswer>, Refusal> {
        for condition in self.when {
            let holds = match condition {
                Condition::Is(place, text) => asked.find(*place)?.as_deref() == Some(*text),
                Condition::Absent(place) => asked.find(*place)?.is_none(),
            };
            if !holds {
                return Ok(None);
            }
        }
        if let Some(name) = self.verify_token {
            let given = asked.find(Place::Query(name))?;
            let known = asked.verify_token.zip(given).is_some_and(|(token, given)| token.is(&given));
            if !known {
                return Err(Refusal::WrongVerifyToken);
            }
        }
        let Some(Challenge { at, form }) = &self.challenge else {
            return Ok(Some(self.answer("", None)));
        };
        match asked.find(*at)? {
            None if self.by == By::SignedPost => Err(Refusal::MissingChallenge),
            None => Ok(None),
            Some(challenge) if !form.fits(&challenge) => Err(Refusal::MalformedChallenge),
            Some(challenge) => {
                let mac = if self.returns_mac() {
                    let mac = asked.key.and_then(|key| key.mac(challenge.as_bytes()));
                    Some(mac.ok_or(Refusal::InvalidSecret)?)
                } else {
                    None
                };
                Ok(Some(self.answer(&challenge, mac)))
            }
        }
    }

    /// Fills in the reply.
    pub(super) fn answer(&self, challenge: &str, mac: Option<[u8; 32]>) -> HandshakeAnswer {
        let mac = mac.as_ref().map_or(&[][..], |mac| mac);
        let mut body = String::new();
        for piece in self.reply.body {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Challenge => body.push_str(challenge),
                Piece::MacHex => body.push_str(&to_hex(mac)),
                Piece::MacBase64 => body.push_str(&STANDARD.encode(mac)),
            }
        }
        HandshakeAnswer::new(self.kind, self.reply.status, self.reply.content_type, body)
    }
}
