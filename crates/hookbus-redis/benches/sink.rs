//! The sink beside the driver's own best loop: pipelines of `XADD` with ready-made fields.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, or fails")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hookbus_brokers::{Kind, Options, private};
use hookbus_core::Envelope;
use hookbus_redis::Redis;
use hookbus_testkit::{Observed, Race, address, connect, distinct, drive};
use redis::{Cmd, Pipeline, aio::MultiplexedConnection, io::tcp::TcpSettings};
use tokio::task::JoinSet;

const EVENTS: usize = 100_000;
/// Entries in one pipeline, and pipelines at once: more of either was no faster.
const PIPELINE: usize = 500;
const AT_ONCE: usize = 2;

fn main() {
    let Some(broker) = private(Kind::Redis, &Options::default()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let finish = runtime.block_on(async {
        let sink: Arc<dyn hookbus_core::Sink> =
            Arc::from(connect::<Redis>(&format!("url = \"{}\"", broker.url())).await);
        let envelopes = distinct(EVENTS, 1100, &address::<Redis>(&[("stream", "sink")]));
        let fields: Vec<_> = envelopes.iter().map(fields).collect();
        let fields: Arc<[_]> = fields.into();
        let race = Race { name: "redis", events: EVENTS, rounds: 5 };
        race.run(
            |_| async {
                broker.redis(&["FLUSHALL"]).unwrap();
                drive(&sink, &envelopes).await
            },
            |_| async {
                broker.redis(&["FLUSHALL"]).unwrap();
                driver(broker.url(), &fields).await
            },
        )
        .await
    });
    println!("{finish}");
}

/// The fields of an entry as the sink makes them.
type Fields = Vec<(String, Vec<u8>)>;

fn fields(envelope: &Envelope) -> Fields {
    let event = Observed::of(&envelope.event);
    let attributes =
        event.attributes.into_iter().map(|(name, value)| (format!("ce_{name}"), value.into_bytes()));
    attributes.chain(event.proof).chain([("data".to_owned(), event.body.to_vec())]).collect()
}

async fn driver(url: &str, fields: &Arc<[Fields]>) -> Duration {
    let info = redis::IntoConnectionInfo::into_connection_info(url).unwrap();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let connection = redis::Client::open(info).unwrap().get_multiplexed_async_connection().await.unwrap();
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let mut starts = (0..fields.len()).step_by(PIPELINE);
    loop {
        while running.len() < AT_ONCE {
            let Some(start) = starts.next() else { break };
            running.spawn(pipeline(connection.clone(), Arc::clone(fields), start));
        }
        if running.join_next().await.transpose().unwrap().is_none() {
            return begun.elapsed();
        }
    }
}

async fn pipeline(mut connection: MultiplexedConnection, fields: Arc<[Fields]>, start: usize) {
    let mut pipeline = Pipeline::with_capacity(PIPELINE);
    for entry in &fields[start..fields.len().min(start + PIPELINE)] {
        let mut command = Cmd::with_capacity(3 + 2 * entry.len(), 2048);
        command.arg("XADD").arg("driver").arg("*");
        for (name, value) in entry {
            command.arg(name).arg(value);
        }
        pipeline.add_command(command);
    }
    let ids: Vec<String> = pipeline.query_async(&mut connection).await.unwrap();
    assert_eq!(ids.len(), pipeline.len());
}
