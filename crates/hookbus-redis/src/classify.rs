//! What the driver's errors mean. This table is the only place that judges them.

use hookbus_core::{ErrorKind, Outcome, RetryClass, SinkError};
use redis::{RedisError, ServerErrorKind};

/// The error as a sink's error, while doing `operation`.
pub(crate) fn classify(operation: &'static str, error: RedisError) -> SinkError {
    let (kind, message) = judge(&error);
    SinkError::new(kind, operation, message).with_source(error)
}

/// The outcome of a command that the server answered with an error: it was not executed.
pub(crate) fn refused(error: RedisError) -> Outcome {
    let error = classify("publish", error);
    match error.retry_class() {
        RetryClass::Never => Outcome::rejected(error),
        _ => Outcome::retry(error),
    }
}

fn judge(error: &RedisError) -> (ErrorKind, &'static str) {
    // Local trouble first: these have no code of the server.
    if error.is_timeout() {
        return (ErrorKind::Timeout, "the server did not answer in time");
    }
    if error.is_io_error() {
        return (ErrorKind::Unavailable, "the server cannot be reached");
    }
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        return (ErrorKind::Auth, "the server refused the login");
    }
    let Some(code) = error.code() else {
        return match error.kind() {
            // Answers out of step with the questions: nothing on this connection can be believed any more.
            redis::ErrorKind::Parse => (ErrorKind::Unavailable, "the server's answer is no Redis protocol"),
            redis::ErrorKind::InvalidClientConfig => (ErrorKind::Auth, "the TLS settings are not usable"),
            _ => (ErrorKind::Unexpected, "the driver failed"),
        };
    };
    let detail = error.detail().unwrap_or_default();
    match code {
        // There, but not ready: start-up, failover, a primary that lost its replicas (`min-replicas-to-write`).
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS" | "UNBLOCKED" => {
            (ErrorKind::Unavailable, "the server is not ready")
        }
        // A failover made it a replica: the address will lead to the new primary, or somebody has to mend it.
        "READONLY" => (ErrorKind::Unavailable, "the server is a replica"),
        // The node of a cluster that does not own the key; this sink speaks to one server.
        "MOVED" | "ASK" | "CROSSSLOT" => {
            (ErrorKind::Unavailable, "the server is a node of a cluster, which this sink does not follow")
        }
        // Full, by `maxmemory` and a policy that evicts nothing, or because its disk is.
        "OOM" => (ErrorKind::Overloaded, "the server is out of memory"),
        "MISCONF" => (ErrorKind::Overloaded, "the server cannot write to its disk"),
        "BUSY" => (ErrorKind::Overloaded, "the server is busy with a script"),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Auth, "the server refused the login"),
        // Of the two permissions that XADD needs, the one for the command concerns all streams, the one for the key
        // this stream alone. Redis tells them apart by words only.
        "NOPERM" if detail.contains("command") => {
            (ErrorKind::Auth, "the user may not run a command this sink needs")
        }
        "NOPERM" => (ErrorKind::Unroutable, "the user may not write to this stream"),
        "WRONGTYPE" => (ErrorKind::Unroutable, "the key holds something else than a stream"),
        // A stream whose last id is the greatest there is takes no further entry until it is removed.
        "ERR" if detail.contains("exhausted the last possible ID") => {
            (ErrorKind::Unroutable, "the stream has no ids left")
        }
        // How a server says that it takes no more clients, just before it closes the connection.
        "ERR" if detail.contains("max number of clients") => {
            (ErrorKind::Overloaded, "the server has too many clients")
        }
        // Password asked for where the server has none, or the other way round: both are logins that fail.
        "ERR" if detail.contains("AUTH") => (ErrorKind::Auth, "the server refused the login"),
        "ERR" if detail.contains("DB index") => (ErrorKind::Auth, "the server has no such database"),
        _ => (ErrorKind::Unexpected, "the server refused the command"),
    }
}

/// Whether an answer says that the user may not run the command, whatever the key.
pub(crate) fn is_forbidden_command(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoPerm)
        && error.detail().is_some_and(|d| d.contains("command"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use ErrorKind::{Auth, Overloaded, Timeout, Unavailable, Unexpected, Unroutable};

    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        // As the driver reads them off the wire.
        let answers = [
            ("LOADING Redis is loading the dataset in memory", Unavailable),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Unavailable),
            ("CLUSTERDOWN The cluster is down", Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("READONLY You can't write against a read only replica.", Unavailable),
            ("MOVED 3999 127.0.0.1:6381", Unavailable),
            ("ASK 3999 127.0.0.1:6381", Unavailable),
            ("CROSSSLOT Keys in request don't hash to the same slot", Unavailable),
            ("OOM command not allowed when used memory > 'maxmemory'.", Overloaded),
            ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to", Overloaded),
            ("BUSY Redis is busy running a script.", Overloaded),
            ("NOAUTH Authentication required.", Auth),
            ("WRONGPASS invalid username-password pair or user is disabled.", Auth),
            ("NOPERM User hookbus has no permissions to run the 'xadd' command", Auth),
            ("NOPERM this user has no permissions to run the 'xadd' command", Auth),
            ("NOPERM No permissions to access a key", Unroutable),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", Unroutable),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Unroutable),
            ("ERR The stream has exhausted the last possible ID, unable to add more items", Unroutable),
            ("ERR max number of clients reached", Overloaded),
            ("ERR AUTH <password> called without any password configured for the default user.", Auth),
            ("ERR DB index is out of range", Auth),
            ("ERR unknown command 'XADD'", Unexpected),
            ("NEWCODE of some later server", Unexpected),
        ];
        for (answer, kind) in answers {
            let value = redis::parse_redis_value(format!("-{answer}\r\n").as_bytes());
            let error = value.and_then(|value| value.extract_error()).unwrap_err();
            let found = classify("publish", error);
            assert_eq!(found.kind(), kind, "{answer}");
            assert!(found.to_string().contains(answer.split(' ').nth(1).unwrap()), "{found}");
        }
    }

    #[test]
    fn local_trouble_has_its_meaning() {
        let kind = |kind: io::ErrorKind| classify("publish", io::Error::from(kind).into()).kind();
        assert_eq!(kind(io::ErrorKind::TimedOut), Timeout);
        assert_eq!(kind(io::ErrorKind::BrokenPipe), Unavailable);
        assert_eq!(kind(io::ErrorKind::ConnectionRefused), Unavailable);
        let kind = |kind: redis::ErrorKind| classify("publish", (kind, "x").into()).kind();
        assert_eq!(kind(redis::ErrorKind::AuthenticationFailed), Auth);
        assert_eq!(kind(redis::ErrorKind::Parse), Unavailable);
        assert_eq!(kind(redis::ErrorKind::InvalidClientConfig), Auth);
        assert_eq!(kind(redis::ErrorKind::Client), Unexpected);
    }

    #[test]
    fn a_refusal_is_no_delivery() {
        let refusal = |code: &str| {
            let value = redis::parse_redis_value(format!("-{code} x\r\n").as_bytes());
            refused(value.and_then(|value| value.extract_error()).unwrap_err())
        };
        for code in ["WRONGTYPE", "OOM", "NEWCODE"] {
            assert!(matches!(refusal(code), Outcome::Retry { maybe_delivered: false, .. }), "{code}");
        }
    }
}
