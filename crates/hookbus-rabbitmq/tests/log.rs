//! Payloads never get into a log, at no level: the driver would log every message that comes back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rabbit;

use std::{
    io,
    sync::{Arc, Mutex},
};

use hookbus_brokers::{Kind, shared};
use hookbus_core::Envelope;
use hookbus_testkit::TestEvent;
use rabbit::{Rabbit, publish, sink, soon, to_exchange, to_queue, words};
use tracing_subscriber::filter::LevelFilter;

/// Part of the body.
const PAYLOAD: &str = "a-payload-that-nobody-may-see";

#[derive(Default)]
struct Log(Mutex<Vec<u8>>);

impl io::Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returned_messages_are_not_logged() {
    let Some(broker) = tokio::task::spawn_blocking(|| shared(Kind::RabbitMq)).await.unwrap() else { return };
    let rabbit = Rabbit::at(broker.url()).await;
    let sink = sink(&format!("url = 'amqp://{}'", broker.address())).await;
    let log = Arc::new(Log::default());
    // After the connection beside the sink was made, whose messages are not the matter here.
    let everything = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
    everything.with_writer(Arc::clone(&log)).init();
    let body = format!(r#"{{"id":"e","type":"t","name":"{PAYLOAD}"}}"#);
    let event = TestEvent::new("fastpix").body(body.clone()).build();
    let (missing, gone) = (to_queue(&rabbit.name("missing")), rabbit.name("gone"));
    let to = |address| vec![Envelope::new(event.clone(), address)];
    assert_eq!(words(&publish(&*sink, to(missing), soon()).await), ["retry unroutable"]);
    // And one whose channel the broker closes.
    rabbit.exchange(&gone, lapin::ExchangeKind::Fanout).await;
    assert_eq!(words(&publish(&*sink, to(to_exchange(&gone, "k")), soon()).await), ["retry unroutable"]);
    rabbit.delete_exchange(&gone).await;
    assert_eq!(words(&publish(&*sink, to(to_exchange(&gone, "k")), soon()).await), ["retry unroutable"]);
    sink.close(soon()).await.unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("connected"), "the log works: {log}");
    let as_bytes = format!("{:?}", PAYLOAD.as_bytes());
    assert!(!log.contains(PAYLOAD) && !log.contains(as_bytes.trim_matches(['[', ']'])), "{log}");
}
