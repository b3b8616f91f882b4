//! Hostile frames of HTTP/2.

use super::{Over, Target, case, heads::gzip};
use crate::support::{Frame, Frames, Provider, Setup, block, frame};

use Provider::FastPix;

const PSEUDO: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/hooks/fastpix"), (":authority", "x")];

fn request(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&PSEUDO[..], more].concat())
}

/// A request with a signature under the wrong key.
fn forged(more: &[(&str, &str)]) -> Vec<u8> {
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"");
    request(&[&[(FastPix.header(), signature.as_str())], more].concat())
}

/// What a connection comes to: a status on a stream, a stream that is reset, or the end.
async fn outcome(frames: &mut Frames) -> String {
    loop {
        return match frames.receive().await {
            Ok(frame) if frame.kind == Frame::HEADERS => frame.status().unwrap().to_string(),
            Ok(frame) if frame.kind == Frame::RST_STREAM => {
                format!("stream reset, code {}", frame.payload[3])
            }
            Ok(frame) if frame.kind == Frame::GOAWAY => format!("goodbye, code {}", frame.payload[7]),
            Ok(_) => continue,
            Err(_) => "ended".to_owned(),
        };
    }
}

/// Sends pieces until the connection is ended by the other side.
async fn flood(
    target: &Target,
    settings: &[u8],
    first: &[u8],
    mut piece: impl FnMut(u32) -> Vec<u8>,
) -> String {
    let mut frames = target.frames(settings).await;
    frames.send(first).await.unwrap();
    for number in 0..200_000 {
        if frames.send(&piece(number)).await.is_err() {
            let code = frames.ended().await;
            return code.map_or("ended".to_owned(), |code| format!("goodbye, code {code}"));
        }
    }
    "it goes on".to_owned()
}

const CALM: [&str; 2] = ["goodbye, code 11", "ended"];

#[tokio::test]
async fn requests_that_are_not_in_order() {
    let cases = [
        (
            "two Content-Lengths",
            forged(&[("content-length", "1"), ("content-length", "2")]),
            "stream reset, code 1",
        ),
        ("Transfer-Encoding", forged(&[("transfer-encoding", "chunked")]), "stream reset, code 1"),
        ("Connection", forged(&[("connection", "close")]), "stream reset, code 1"),
        ("a name in upper case", forged(&[("X-Upper", "1")]), "stream reset, code 1"),
        ("a CR and LF in a value", forged(&[("x-folded", "a\r\n b")]), "stream reset, code 1"),
        ("two paths", forged(&[(":path", "/other")]), "stream reset, code 1"),
        ("32 KB of headers", forged(&[("x-a", &"x".repeat(15_000)), ("x-b", &"x".repeat(15_000))]), "431"),
        ("1 GB announced", forged(&[("content-length", "1073741824")]), "413"),
    ];
    for over in Over::HTTP2 {
        for (name, head, expected) in &cases {
            case(over, name, &[expected, "goodbye, code 1"], Setup::default(), async |target| {
                let mut frames = target.frames(b"").await;
                let (first, rest) = head.split_at(head.len().min(16_000));
                let flags = if rest.is_empty() { Frame::END_HEADERS } else { 0 };
                frames.send(&frame(Frame::HEADERS, flags, 1, first)).await.unwrap();
                let mut rest = rest.chunks(16_000).peekable();
                while let Some(piece) = rest.next() {
                    let flags = if rest.peek().is_none() { Frame::END_HEADERS } else { 0 };
                    frames.send(&frame(Frame::CONTINUATION, flags, 1, piece)).await.unwrap();
                }
                outcome(&mut frames).await
            })
            .await;
        }
        let bomb = gzip(10 << 20);
        case(over, "a gzip bomb, 10 KB for 10 MiB", &["200"], Setup::default(), async |target| {
            let signature = FastPix.signature(&bomb);
            let head = request(&[(FastPix.header(), &signature), ("content-encoding", "gzip")]);
            let mut frames = target.frames(b"").await;
            let body = frame(Frame::DATA, Frame::END_STREAM, 1, &bomb);
            frames.send(&[frame(Frame::HEADERS, Frame::END_HEADERS, 1, &head), body].concat()).await.unwrap();
            outcome(&mut frames).await
        })
        .await;
    }
}

#[tokio::test]
async fn floods_of_frames() {
    for over in Over::HTTP2 {
        let head = forged(&[]);
        let open = |stream| frame(Frame::HEADERS, Frame::END_HEADERS, stream, &head);
        let reset = |stream| frame(Frame::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        case(over, "rapid reset", &CALM, Setup::default(), async |target| {
            let burst = |round: u32| {
                (0..20)
                    .map(|at| 1 + 2 * (20 * round + at))
                    .flat_map(|at| [open(at), reset(at)].concat())
                    .collect()
            };
            flood(target, b"", b"", burst).await
        })
        .await;
        case(over, "rapid reset, each looked at first", &CALM, Setup::default(), async |target| {
            let pair = |round| [open(1 + 2 * round), reset(1 + 2 * round)].concat();
            flood(target, b"", b"", pair).await
        })
        .await;
        case(over, "CONTINUATION without end", &CALM, Setup::default(), async |target| {
            let first = frame(Frame::HEADERS, 0, 1, &head);
            flood(target, b"", &first, |_| frame(Frame::CONTINUATION, 0, 1, b"")).await
        })
        .await;
        case(
            over,
            "an HPACK bomb, 16 KB for 46 MB",
            &["431", "goodbye, code 11", "goodbye, code 9"],
            Setup::default(),
            async |target| {
                let mut bomb = head.clone();
                bomb.push(0x40);
                bomb.extend_from_slice(&block(&[("x-bomb", &"x".repeat(3_900))])[1..]);
                bomb.extend(std::iter::repeat_n(0xbe, 12_000));
                let mut frames = target.frames(b"").await;
                frames.send(&frame(Frame::HEADERS, Frame::END_HEADERS, 1, &bomb)).await.unwrap();
                outcome(&mut frames).await
            },
        )
        .await;
        case(over, "frames of bodies with nothing in them", &CALM, Setup::default(), async |target| {
            flood(target, b"", &open(1), |_| frame(Frame::DATA, 0, 1, b"").repeat(10)).await
        })
        .await;
        case(
            over,
            "a window of more than 2^31",
            &["goodbye, code 3", "ended"],
            Setup::default(),
            async |target| flood(target, b"", b"", |_| frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])).await,
        )
        .await;
        case(over, "a frame of 16 MB", &["goodbye, code 6", "ended"], Setup::default(), async |target| {
            flood(target, b"", b"", |_| vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]).await
        })
        .await;
        // These are answered, one by one, as long as the client reads.
        for (name, kind, payload) in [
            ("100,000 pings", Frame::PING, &[7; 8][..]),
            ("100,000 settings", Frame::SETTINGS, &[0, 4, 0, 0, 255, 255]),
        ] {
            case(over, name, &["100000 answered"], Setup::default(), async |target| {
                let mut frames = target.frames(b"").await;
                let mut answered = 0;
                for _ in 0..1_000 {
                    frames.send(&frame(kind, 0, 0, payload).repeat(100)).await.unwrap();
                    for _ in 0..100 {
                        while frames.receive_kind(kind).await.unwrap().flags == 0 {}
                        answered += 1;
                    }
                }
                format!("{answered} answered")
            })
            .await;
        }
    }
}
