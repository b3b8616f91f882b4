//! Faults of the buses under load, with real brokers: what is answered 200 is on the bus, byte for byte.
//!
//! Each test has a broker of its own and clients that do what providers do: after a 503 some send the same event again
//! until it is answered 200, others never do. At its end a consumer's view of the bus is held against what every
//! client was told, and a line of figures goes to stderr.

mod account;
mod address;
mod backlog;
mod crash;
mod crowd;
mod disk;
mod fsync;
mod isolation;
mod outage;
mod oversized;
mod stage;
mod unbound;

/// Makes a test for each bus out of a function that takes its kind.
macro_rules! on_each_bus {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use hookbus_brokers::Kind;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                super::$name(Kind::Redis).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rabbitmq() {
                super::$name(Kind::RabbitMq).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn kafka() {
                super::$name(Kind::Kafka).await;
            }
        }
    )+};
}
use on_each_bus;
