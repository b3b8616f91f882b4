//! Every handshake there is, by provider. `docs/handshakes.md` says what each needs.

use http::StatusCode;

use super::{
    Handshakes,
    rule::{
        By::{EmptyPost, Get, GetOrPost, SignedPost},
        Challenge,
        Condition::{Absent, Is},
        Form,
        Piece::{self, MacBase64, MacHex, Text},
        Place::{Header, Json, Query},
        Reply, Rule,
    },
};

/// The challenge itself, as plain text.
const ECHO: Reply = reply("text/plain", &[Piece::Challenge]);

const fn reply(content_type: &'static str, body: &'static [Piece]) -> Reply {
    Reply { status: StatusCode::OK, content_type: Some(content_type), body }
}

const fn json(body: &'static [Piece]) -> Reply {
    reply("application/json", body)
}

const fn text(at: super::rule::Place) -> Option<Challenge> {
    Some(Challenge { at, form: Form::Text })
}

const fn token(at: super::rule::Place) -> Option<Challenge> {
    Some(Challenge { at, form: Form::Token })
}

/// By provider, sorted.
pub(super) static ALL: &[Handshakes] = &[
    Handshakes {
        name: "discord",
        rules: &[
            // Events have a type 1 too, but also an `event`.
            Rule {
                kind: "discord interaction ping",
                by: SignedPost,
                when: &[Is(Json("/type"), "1"), Absent(Json("/event/type"))],
                verify_token: None,
                challenge: None,
                reply: json(&[Text(r#"{"type":1}"#)]),
            },
            Rule {
                kind: "discord event ping",
                by: SignedPost,
                when: &[Is(Json("/type"), "0"), Absent(Json("/event/type"))],
                verify_token: None,
                challenge: None,
                reply: Reply { status: StatusCode::NO_CONTENT, content_type: None, body: &[] },
            },
        ],
    },
    Handshakes {
        name: "dropbox",
        rules: &[Rule {
            kind: "dropbox challenge",
            by: Get,
            when: &[],
            verify_token: None,
            challenge: text(Query("challenge")),
            reply: ECHO,
        }],
    },
    Handshakes {
        name: "fastpix",
        rules: &[Rule {
            kind: "fastpix probe",
            by: EmptyPost,
            when: &[],
            verify_token: None,
            challenge: None,
            reply: json(&[Text(r#"{"id":null,"status":"ignored"}"#)]),
        }],
    },
    Handshakes {
        name: "meta",
        rules: &[Rule {
            kind: "meta hub.challenge",
            by: Get,
            when: &[Is(Query("hub.mode"), "subscribe")],
            verify_token: Some("hub.verify_token"),
            challenge: text(Query("hub.challenge")),
            reply: ECHO,
        }],
    },
    Handshakes {
        name: "microsoft-graph",
        rules: &[Rule {
            kind: "microsoft-graph validationToken",
            by: GetOrPost,
            when: &[],
            verify_token: None,
            challenge: text(Query("validationToken")),
            reply: ECHO,
        }],
    },
    Handshakes {
        name: "okta",
        rules: &[Rule {
            kind: "okta verification challenge",
            by: Get,
            when: &[],
            verify_token: None,
            challenge: token(Header("x-okta-verification-challenge")),
            reply: json(&[Text(r#"{"verification":""#), Piece::Challenge, Text("\"}")]),
        }],
    },
    Handshakes {
        name: "slack",
        rules: &[Rule {
            kind: "slack url_verification",
            by: SignedPost,
            when: &[Is(Json("/type"), "url_verification")],
            verify_token: None,
            challenge: text(Json("/challenge")),
            reply: ECHO,
        }],
    },
    Handshakes {
        name: "twitch",
        rules: &[Rule {
            kind: "twitch webhook_callback_verification",
            by: SignedPost,
            when: &[Is(Header("twitch-eventsub-message-type"), "webhook_callback_verification")],
            verify_token: None,
            challenge: text(Json("/challenge")),
            reply: ECHO,
        }],
    },
    Handshakes {
        name: "x",
        rules: &[Rule {
            kind: "x crc_token",
            by: Get,
            when: &[],
            verify_token: None,
            challenge: token(Query("crc_token")),
            reply: json(&[Text(r#"{"response_token":"sha256="#), MacBase64, Text("\"}")]),
        }],
    },
    Handshakes {
        name: "zoom",
        rules: &[Rule {
            kind: "zoom endpoint.url_validation",
            by: SignedPost,
            when: &[Is(Json("/event"), "endpoint.url_validation")],
            verify_token: None,
            challenge: token(Json("/payload/plainToken")),
            reply: json(&[
                Text(r#"{"plainToken":""#),
                Piece::Challenge,
                Text(r#"","encryptedToken":""#),
                MacHex,
                Text("\"}"),
            ]),
        }],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_sound() {
        assert!(ALL.is_sorted_by_key(|one| one.name));
        for rule in ALL.iter().flat_map(|one| one.rules) {
            let json = rule.reply.content_type == Some("application/json");
            let echoes = rule.reply.body.iter().any(|piece| matches!(piece, Piece::Challenge));
            if rule.returns_mac() || json && echoes {
                assert!(
                    rule.challenge.as_ref().is_some_and(|challenge| challenge.form == Form::Token),
                    "{}: what is signed or stands inside JSON has the narrow form",
                    rule.kind
                );
            }
            assert_eq!(rule.reply.body.is_empty(), rule.reply.content_type.is_none(), "{}", rule.kind);
            for pointer in rule.pointers() {
                assert!(crate::json::Pointer::parse(pointer).is_ok(), "{}", rule.kind);
                assert_eq!(rule.by, SignedPost, "{}: only an authentic body is read", rule.kind);
            }
        }
    }
}
