//! Which brokers there are, and how a client may get in.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

/// A broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Redis.
    Redis,
    /// RabbitMQ, which speaks AMQP 0-9-1.
    RabbitMq,
    /// Apache Kafka: one node that is broker and controller.
    Kafka,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Redis, Self::RabbitMq, Self::Kafka];

    /// The name in lower case: of folders, on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| Error::Invalid(format!("`{text}` is no broker; there are {}", names())))
    }
}

/// A way in. What each broker has is a table in the documentation of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Without encryption, and without a password where the broker can do that.
    Plain,
    /// Without encryption, as [`USER`](crate::USER) with [`PASSWORD`](crate::PASSWORD).
    Password,
    /// Encrypted; nobody has to show who they are.
    Tls,
    /// Encrypted; only clients with a certificate come in.
    MutualTls,
    /// Encrypted, and with a password.
    PasswordTls,
}

impl Access {
    pub(crate) const ALL: [Self; 5] =
        [Self::Plain, Self::Password, Self::Tls, Self::MutualTls, Self::PasswordTls];

    /// As part of a variable's name, and the name of a listener of Kafka.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Password => "PASSWORD",
            Self::Tls => "TLS",
            Self::MutualTls => "MUTUAL_TLS",
            Self::PasswordTls => "PASSWORD_TLS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        let error = "nats".parse::<Kind>().unwrap_err().to_string();
        assert_eq!(error, "`nats` is no broker; there are redis, rabbitmq, kafka");
    }
}
