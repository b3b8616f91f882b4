//! What an error of the driver or a reply code of AMQP means for a sink.

use std::sync::Arc;

use hookbus_core::{ErrorKind, SinkError};
use lapin::{
    ErrorKind as Driver,
    protocol::{AMQPErrorKind, AMQPHardError as Hard, AMQPSoftError as Soft},
};

/// Where an error came up; the same code means one thing at the login and another at a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// While the connection was made.
    Login,
    /// On the connection, so that no event can be blamed.
    Connection,
    /// On a channel, where one message or one question was under way.
    Channel,
}

/// A sink's error for a driver's one.
pub(crate) fn classify(place: Place, operation: &'static str, error: &lapin::Error) -> SinkError {
    let (kind, message) = meaning(place, error);
    let ours = SinkError::new(kind, operation, message);
    match error.kind() {
        // The driver's own words would only say again what stands inside.
        Driver::ProtocolError(reply) => ours.with_source(reply.clone()),
        Driver::IOError(error) | Driver::RuntimeShutdownError(error) => ours.with_source(Arc::clone(error)),
        _ => ours.with_source(error.clone()),
    }
}

/// The table. A kind of class *never* (too large, invalid) is a dead letter, so it is given only where exactly one
/// message can be meant; what ends a whole connection is never one message's fault for certain.
fn meaning(place: Place, error: &lapin::Error) -> (ErrorKind, &'static str) {
    use ErrorKind::{Auth, Closed, Overloaded, TooLarge, Unavailable, Unexpected, Unroutable};
    match error.kind() {
        Driver::ProtocolError(reply) => match (reply.kind(), place) {
            // 403 at the login: user or password. Later the same code means one exchange, queue or topic.
            (AMQPErrorKind::Soft(Soft::ACCESSREFUSED), Place::Login) => (Auth, "the login was refused"),
            // A channel's error that was seen on a connection which is gone as well: its connection is the trouble.
            (AMQPErrorKind::Soft(_), Place::Login | Place::Connection) => {
                (Unavailable, "the connection is lost")
            }
            // 403: no permission to write to this exchange or topic, or the exchange is internal.
            (AMQPErrorKind::Soft(Soft::ACCESSREFUSED), Place::Channel) => {
                (Unroutable, "the address is forbidden")
            }
            // 404: there is no such exchange, or no such queue.
            (AMQPErrorKind::Soft(Soft::NOTFOUND), Place::Channel) => {
                (Unroutable, "the address does not exist")
            }
            // 405: an exclusive queue of another connection, which therefore cannot be asked about.
            (AMQPErrorKind::Soft(Soft::RESOURCELOCKED), Place::Channel) => {
                (Unroutable, "the queue belongs to another connection")
            }
            // 311, and what RabbitMQ says instead: 406 with words about the size. Other preconditions are unforeseen.
            (AMQPErrorKind::Soft(Soft::CONTENTTOOLARGE), Place::Channel) => (TooLarge, TOO_LARGE),
            (AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED), Place::Channel) => {
                if reply.get_message().as_str().contains("message size") {
                    (TooLarge, TOO_LARGE)
                } else {
                    (Unexpected, "the broker refused a precondition")
                }
            }
            // 312 and 313 come with returned messages: no queue, or no consumer at a queue.
            (AMQPErrorKind::Soft(Soft::NOROUTE | Soft::NOCONSUMERS), Place::Channel) => {
                (Unroutable, "the message was routed to no queue")
            }
            // 320: the node stops, or an operator closed the connection.
            (AMQPErrorKind::Hard(Hard::CONNECTIONFORCED), _) => {
                (Unavailable, "the broker closed the connection")
            }
            // 402, 530: the virtual host does not exist, or this user may not enter it, or too many have. RabbitMQ
            // has one code for all of them; what helps is a change of user, permissions or URL.
            (AMQPErrorKind::Hard(Hard::INVALIDPATH | Hard::NOTALLOWED), Place::Login) => {
                (Auth, "the user is not let into the virtual host")
            }
            (AMQPErrorKind::Hard(Hard::INVALIDPATH | Hard::NOTALLOWED), _) => {
                (Unavailable, "the broker closed the connection")
            }
            // 506: it has run out of something.
            (AMQPErrorKind::Hard(Hard::RESOURCEERROR), _) => (Overloaded, "the broker lacks resources"),
            // 541: a node in trouble, such as a virtual host that is down.
            (AMQPErrorKind::Hard(Hard::INTERNALERROR), _) => {
                (Unavailable, "the broker has an internal error")
            }
            // 504: the driver sent something on a channel that the broker had just closed. Nobody's message is to blame.
            (AMQPErrorKind::Hard(Hard::CHANNELERROR), Place::Connection | Place::Channel) => {
                (Unavailable, "the connection is lost")
            }
            // 501 to 503, 505, 540: one side broke the protocol. A message may be the cause, but all in flight are lost
            // alike: each is tried again, alone, and only the one that keeps failing ends as a dead letter.
            (AMQPErrorKind::Hard(_), Place::Login) => (Unavailable, "no AMQP 0-9-1 can be spoken there"),
            (AMQPErrorKind::Hard(_), _) => (Unexpected, "the broker found an error in the protocol"),
        },
        Driver::IOError(_) => match place {
            Place::Login => (Unavailable, "the broker cannot be reached"),
            _ => (Unavailable, "the connection is lost"),
        },
        Driver::MissingHeartbeatError => (Unavailable, "the broker gave no sign of life"),
        // Left over from a connection or channel that ended; what ended it was told to somebody else.
        Driver::InvalidChannel(_) | Driver::InvalidChannelState(..) | Driver::InvalidConnectionState(_) => {
            (Unavailable, "the connection is lost")
        }
        Driver::InvalidProtocolVersion(_) | Driver::ParsingError(_) => {
            (Unavailable, "no AMQP 0-9-1 can be spoken there")
        }
        // The broker's `channel_max` is smaller than the few channels a sink uses.
        Driver::ChannelsLimitReached => (Overloaded, "the broker allows no more channels"),
        Driver::AuthProviderError(_) => (Auth, "the broker asks for a login this sink does not know"),
        Driver::RuntimeShutdownError(_) => (Closed, "the program is stopping"),
        // Lengths are checked before, so a message that cannot be encoded is a mistake of ours; the driver gives up
        // the connection for it, and with it messages that are innocent.
        Driver::SerialisationError(_) => (Unexpected, "a message could not be encoded"),
        Driver::FutureCompleted | Driver::NoDefaultRuntime => (Unexpected, "the driver was used wrongly"),
        // The driver's list is open.
        _ => (Unexpected, "an error of the driver that nobody foresaw"),
    }
}

const TOO_LARGE: &str =
    "the broker takes no message of this size; `max-message-size` is higher than the broker's own limit";

#[cfg(test)]
mod tests {
    use std::io;

    use ErrorKind::{Auth, Closed, Overloaded, TooLarge, Unavailable, Unexpected, Unroutable};
    use Place::{Channel, Connection, Login};
    use lapin::protocol::AMQPError;

    use super::*;

    fn reply(code: u16, text: &str) -> lapin::Error {
        Driver::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
    }

    #[test]
    fn every_reply_code() {
        // code: at the login, on a connection, on a channel
        let table = [
            (311, Unavailable, Unavailable, TooLarge),
            (312, Unavailable, Unavailable, Unroutable),
            (313, Unavailable, Unavailable, Unroutable),
            (320, Unavailable, Unavailable, Unavailable),
            (402, Auth, Unavailable, Unavailable),
            (403, Auth, Unavailable, Unroutable),
            (404, Unavailable, Unavailable, Unroutable),
            (405, Unavailable, Unavailable, Unroutable),
            (406, Unavailable, Unavailable, Unexpected),
            (501, Unavailable, Unexpected, Unexpected),
            (502, Unavailable, Unexpected, Unexpected),
            (503, Unavailable, Unexpected, Unexpected),
            (504, Unavailable, Unavailable, Unavailable),
            (505, Unavailable, Unexpected, Unexpected),
            (506, Overloaded, Overloaded, Overloaded),
            (530, Auth, Unavailable, Unavailable),
            (540, Unavailable, Unexpected, Unexpected),
            (541, Unavailable, Unavailable, Unavailable),
        ];
        for (code, login, connection, channel) in table {
            for (place, kind) in [(Login, login), (Connection, connection), (Channel, channel)] {
                let error = classify(place, "publish", &reply(code, "WORDS - of the broker"));
                assert_eq!(error.kind(), kind, "{code} {place:?}");
                assert!(error.to_string().ends_with("WORDS - of the broker"), "{error}");
            }
        }
    }

    #[test]
    fn a_precondition_about_the_size_is_told_by_its_words() {
        let words = "PRECONDITION_FAILED - message size 70000 is larger than configured max size 65536";
        assert_eq!(classify(Channel, "publish", &reply(406, words)).kind(), TooLarge);
    }

    #[test]
    fn every_kind_of_the_driver() {
        let io = || Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let table = [
            (Driver::ChannelsLimitReached, Overloaded),
            (Driver::InvalidChannel(1), Unavailable),
            (Driver::InvalidChannelState(lapin::ChannelState::Closed, "basic.publish"), Unavailable),
            (Driver::InvalidConnectionState(lapin::ConnectionState::Closed), Unavailable),
            (Driver::IOError(io()), Unavailable),
            (Driver::RuntimeShutdownError(io()), Closed),
            (Driver::AuthProviderError("x".into()), Auth),
            (Driver::FutureCompleted, Unexpected),
            (Driver::NoDefaultRuntime, Unexpected),
            (Driver::MissingHeartbeatError, Unavailable),
        ];
        for (kind, ours) in table {
            for place in [Login, Connection, Channel] {
                let error = classify(place, "publish", &kind.clone().into());
                assert_eq!(error.kind(), ours, "{kind:?} {place:?}");
                assert!(std::error::Error::source(&error).is_some(), "{error}");
            }
        }
    }
}
