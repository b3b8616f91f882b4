//! Streams of a Redis.

use redis::{Client, Cmd, FromRedisValue};

use super::Arrived;

/// An entry: its id and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// Entries read at once.
const PAGE: usize = 2000;

/// Runs one command.
pub(crate) async fn command<T: FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut connection = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    Cmd::new().arg(words).query_async(&mut connection).await.unwrap()
}

/// Everything in a stream, in its order.
pub(crate) async fn read(url: &str, stream: &str) -> Vec<Arrived> {
    let mut connection = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (mut after, mut read) = ("-".to_owned(), Vec::new());
    loop {
        let mut command = Cmd::new();
        command.arg("XRANGE").arg(stream).arg(&after).arg("+").arg("COUNT").arg(PAGE);
        let page: Vec<Entry> = command.query_async(&mut connection).await.unwrap();
        let Some((last, _)) = page.last() else { return read };
        // Beginning behind it.
        after = format!("({last}");
        for (_, fields) in page {
            let mut arrived = Arrived::default();
            for (name, value) in fields {
                match &*name {
                    "data" => arrived.body = value,
                    name => arrived.header("ce_", name, &value),
                }
            }
            read.push(arrived);
        }
    }
}
