//! What a server says of itself, as far as it matters for keeping events.

use redis::{RedisResult, Value, aio::MultiplexedConnection, pipe};

/// The longest string a server takes, unless it says otherwise (`proto-max-bulk-len`).
const LARGEST: usize = 512 << 20;

/// What is worth knowing of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// The longest string it takes, in bytes: a longer one makes it close the connection, neighbours and all.
    pub(crate) largest: usize,
    /// What its operator should know.
    pub(crate) warnings: Vec<String>,
}

impl Server {
    /// Asks the server. A user who may not ask gets the defaults: these are hints, not conditions.
    pub(crate) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let mut questions = pipe();
        questions.ignore_errors();
        questions.cmd("CONFIG").arg("GET").arg("proto-max-bulk-len");
        questions.cmd("INFO").arg("memory");
        questions.cmd("INFO").arg("persistence");
        let answers: Vec<Value> = questions.query_async(connection).await?;
        let mut answers = answers.into_iter();
        let largest = answers.next().and_then(|value| redis::from_redis_value::<Vec<String>>(value).ok());
        let largest = largest.and_then(|pair| pair.get(1)?.parse().ok()).unwrap_or(LARGEST);
        let info: String =
            answers.filter_map(|value| redis::from_redis_value::<String>(value).ok()).collect();
        Ok(Self { largest, warnings: warnings(&info) })
    }
}

/// What follows from the lines of `INFO`.
fn warnings(info: &str) -> Vec<String> {
    let line = |key: &str| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim())
    };
    let mut warnings = Vec::new();
    // Without a limit nothing is evicted, and the `volatile` policies leave streams alone: they have no expiry.
    let limited = line("maxmemory").is_some_and(|bytes| bytes != "0");
    if let Some(policy) = line("maxmemory_policy").filter(|policy| limited && policy.starts_with("allkeys")) {
        warnings.push(format!(
            "the server may drop whole streams to make room (maxmemory-policy {policy}); events in them are lost. Use `noeviction`"
        ));
    }
    if line("aof_enabled") == Some("0") {
        warnings.push(
            "the server keeps no log on disk (appendonly no): a crash loses events that it has confirmed"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_drop_streams_are_told_from_those_that_do_not() {
        let warned = |maxmemory: u32, policy: &str| {
            let info = format!(
                "# Memory\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\naof_enabled:1\r\n"
            );
            !warnings(&info).is_empty()
        };
        assert!(warned(1, "allkeys-lru") && warned(1, "allkeys-random"));
        assert!(!warned(0, "allkeys-lru") && !warned(1, "noeviction") && !warned(1, "volatile-lru"));
    }

    #[test]
    fn a_server_that_says_nothing_is_not_warned_of() {
        assert!(warnings("").is_empty());
        assert_eq!(warnings("aof_enabled:0\r\n").len(), 1);
    }
}
