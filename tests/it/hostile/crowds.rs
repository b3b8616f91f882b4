//! Many clients that are slow, or do nothing.

use tokio::task::JoinSet;

use super::{IMPATIENT, Over, Target, case, hold::Holder, raise_open_files, told};
use crate::support::{Client, Frame, Provider, Setup, block, frame, head, number_of};

use Provider::FastPix;

const MANY: usize = 32;

fn impatient() -> Setup {
    Setup { timeouts: IMPATIENT, ..Setup::default() }
}

/// Lets many clients do the same at once; what they came to must be the same too.
async fn many<F>(target: &Target, one: impl Fn(Client) -> F) -> String
where
    F: Future<Output = String> + Send + 'static,
{
    let mut clients = JoinSet::new();
    for _ in 0..MANY {
        clients.spawn(one(target.connect().await));
    }
    let mut outcomes = clients.join_all().await;
    outcomes.sort();
    outcomes.dedup();
    outcomes.join(" or ")
}

#[tokio::test]
async fn slow_clients() {
    for over in Over::HTTP1 {
        case(over, "32 clients that say nothing", &["ended"], impatient(), async |target| {
            many(target, |mut client| async move { told(&client.receive().await) }).await
        })
        .await;
        case(over, "32 halves of a head", &["408 request_timeout"], impatient(), async |target| {
            many(target, |mut client| async move {
                client.send(&head("/hooks/fastpix", &[])[..30]).await.unwrap();
                told(&client.receive().await)
            })
            .await
        })
        .await;
        case(over, "32 halves of a body", &["408 request_timeout"], impatient(), async |target| {
            many(target, |mut client| async move {
                let request = FastPix.request(b"{\"id\":\"half\"}");
                client.send(&request[..request.len() - 5]).await.unwrap();
                told(&client.receive().await)
            })
            .await
        })
        .await;
    }
    for over in Over::HTTP2 {
        case(
            over,
            "2,048 halves of a body over 32 connections",
            &["408 of each that had room"],
            impatient(),
            async |target| {
                let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"");
                let fields = [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":path", "/hooks/fastpix"),
                    (":authority", "x"),
                    (FastPix.header(), signature.as_str()),
                ];
                let half = |stream| {
                    let head = frame(Frame::HEADERS, Frame::END_HEADERS, stream, &block(&fields));
                    [head, frame(Frame::DATA, 0, stream, &[b'x'; 200])].concat()
                };
                let mut clients = Vec::new();
                for _ in 0..MANY {
                    let mut frames = target.frames(b"").await;
                    frames.send(&(0..64).flat_map(|at| half(1 + 2 * at)).collect::<Vec<_>>()).await.unwrap();
                    clients.push(frames);
                }
                // Whoever sends slowly makes room for who does not.
                target.genuine("meanwhile").await;
                let (mut slow, mut busy) = (0, 0);
                for mut frames in clients {
                    for _ in 0..64 {
                        match frames.receive_kind(Frame::HEADERS).await.unwrap().status() {
                            Some(408) => slow += 1,
                            Some(503) => busy += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                }
                assert_eq!(slow + busy, 2048);
                assert!(slow >= 512, "{slow}");
                "408 of each that had room".to_owned()
            },
        )
        .await;
    }
    case(Over::Http1Tls, "32 slow handshakes", &["ended"], impatient(), async |target| {
        let mut clients = JoinSet::new();
        for _ in 0..MANY {
            let mut client = target.bridge.connect().await;
            clients.spawn(async move {
                client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
                told(&client.receive().await)
            });
        }
        let mut outcomes = clients.join_all().await;
        outcomes.dedup();
        outcomes.join(" or ")
    })
    .await;
    case(Over::Http1Tls, "32 times HTTP in clear", &["400 tls_required"], impatient(), async |target| {
        let mut outcomes = Vec::new();
        for _ in 0..MANY {
            let mut client = target.bridge.connect().await;
            client.send(&FastPix.request(b"{}")).await.unwrap();
            outcomes.push(told(&client.receive().await));
        }
        outcomes.dedup();
        outcomes.join(" or ")
    })
    .await;
}

#[tokio::test]
async fn idle_connections() {
    raise_open_files();
    let count = number_of("HOOKBUS_TEST_IDLE", 200);
    let limits = "connections = 20000, connections-per-address = 20000";
    let timeouts = "first-byte = \"1h\", idle = \"1h\"";
    for over in [Over::Http1, Over::Http1Tls, Over::Http2, Over::Http2Tls] {
        let name = format!("{count} idle connections, each behind one request");
        let setup = Setup { limits, timeouts, ..Setup::default() };
        case(over, &name, &[&format!("{count} held")], setup, async |target| {
            let mut holder = Holder::start(target, count);
            let held = holder.held().await;
            target.genuine("beside").await;
            format!("{held} held")
        })
        .await;
    }
}
