//! Streams of a Redis.

use std::time::{Duration, UNIX_EPOCH};

use redis::{Client, Cmd, FromRedisValue};

use super::{Arrived, PAGE};

/// An entry: its id and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// Entries read at once.
const AT_ONCE: usize = 2000;

/// Runs one command.
pub(crate) async fn command<T: FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut connection = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    Cmd::new().arg(words).query_async(&mut connection).await.unwrap()
}

/// What is in a stream behind this entry, in its order, and the last entry of it.
pub(crate) async fn page(url: &str, stream: &str, mut after: String) -> (Vec<Arrived>, String) {
    let mut connection = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut read = Vec::new();
    while read.len() < PAGE {
        let from = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
        let mut command = Cmd::new();
        command.arg("XRANGE").arg(stream).arg(from).arg("+").arg("COUNT").arg(AT_ONCE);
        let page: Vec<Entry> = command.query_async(&mut connection).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        for (id, fields) in page {
            // An id begins with the server's clock.
            let millis = id.split('-').next().and_then(|millis| millis.parse().ok()).unwrap();
            let at = Some(UNIX_EPOCH + Duration::from_millis(millis));
            let mut arrived = Arrived { at, ..Arrived::default() };
            for (name, value) in fields {
                match &*name {
                    "data" => arrived.body = value,
                    name => arrived.header("ce_", name, &value),
                }
            }
            read.push(arrived);
        }
    }
    (read, after)
}
