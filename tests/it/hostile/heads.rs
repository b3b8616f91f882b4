//! One request that is not as it should be, over HTTP/1.1.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::{Over, case, told};
use crate::support::{Client, Provider, Setup, chunk, head, post};

use Provider::FastPix;

/// A forged request whose framing is what this is about; then what a smuggler would hide in it.
fn smuggled(framing: &str, body: &str) -> Vec<u8> {
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"");
    let name = FastPix.header();
    format!("POST /hooks/fastpix HTTP/1.1\r\nhost: x\r\n{name}: {signature}\r\n{framing}\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test]
async fn heads_that_mean_two_things_or_none() {
    const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let broken = "400 broken_request";
    let cases = [
        ("no HTTP", b"SSH-2.0-client\r\n\r\n".to_vec(), broken),
        ("two Content-Lengths", smuggled("content-length: 1\r\ncontent-length: 2", "{}"), broken),
        ("two Content-Lengths in one", smuggled("content-length: 1, 2", "{}"), broken),
        ("Content-Length: -1", smuggled("content-length: -1", ""), broken),
        ("Content-Length: +2", smuggled("content-length: +2", "{}"), broken),
        ("Transfer-Encoding: gzip", smuggled("transfer-encoding: gzip", ""), broken),
        ("Transfer-Encoding: chunked, gzip", smuggled("transfer-encoding: chunked, gzip", ""), broken),
        ("obsolete folding", smuggled("x-folded: a\r\n b\r\ncontent-length: 2", "{}"), broken),
        ("a space before the colon", smuggled("content-length : 2", "{}"), broken),
        ("no colon", smuggled("no colon", ""), broken),
        ("a zero byte in a header", smuggled("x-zero: a\0b", ""), broken),
        ("a bare CR in a header", smuggled("x-cr: a\rb", ""), broken),
        (
            "a path of 70,000 bytes",
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)).into(),
            "431 head_too_large",
        ),
        ("HTTP/9.9", b"POST /hooks/fastpix HTTP/9.9\r\nhost: x\r\n\r\n".to_vec(), broken),
        (
            "a chunk of 2^68 bytes",
            smuggled("transfer-encoding: chunked", "fffffffffffffffff\r\n{}"),
            "400 broken_body",
        ),
        (
            "a chunk without a size",
            smuggled("transfer-encoding: chunked", "\r\n{}\r\n0\r\n\r\n"),
            "400 broken_body",
        ),
    ];
    for over in Over::HTTP1 {
        for (name, input, expected) in &cases {
            case(over, name, &[*expected], Setup::default(), async |target| {
                let mut client = target.connect().await;
                // A refusal may come, and the connection end, before all is sent.
                let _ = client.send(input).await;
                let answer = told(&client.receive().await);
                assert!(client.receive().await.is_err(), "the connection goes on");
                answer
            })
            .await;
        }
        // Both framings: the chunks count, and nothing behind them is taken for a request that was smuggled.
        let both = smuggled("content-length: 5\r\ntransfer-encoding: chunked", &format!("0\r\n\r\n{HIDDEN}"));
        case(
            over,
            "Content-Length and Transfer-Encoding",
            &["401 signature_mismatch, ended"],
            Setup::default(),
            async |target| {
                let mut client = target.connect().await;
                client.send(&both).await.unwrap();
                format!("{}, {}", told(&client.receive().await), told(&client.receive().await))
            },
        )
        .await;
    }
}

/// What some servers take and others do not. Whatever is taken here is read in one way, and what follows is the next request.
#[tokio::test]
async fn heads_that_are_odd() {
    let forged = "401 signature_mismatch";
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"");
    let line = |line: &str| {
        let signed = format!("{}: {signature}", FastPix.header());
        format!("{line}\r\nhost: x\r\n{signed}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes()
    };
    let lf = |text: Vec<u8>| String::from_utf8(text).unwrap().replace("\r\n", "\n").into_bytes();
    let chunked = |more: &str| smuggled(&format!("transfer-encoding: {more}"), "2\r\n{}\r\n0\r\n\r\n");
    let cases = [
        ("lines that end with LF alone", lf(line("POST /hooks/fastpix HTTP/1.1")), forged),
        ("an absolute target", line("POST http://y/hooks/fastpix HTTP/1.1"), forged),
        ("two Hosts", smuggled("host: y\r\ncontent-length: 2", "{}"), forged),
        ("equal Content-Lengths", smuggled("content-length: 2\r\ncontent-length: 2", "{}"), forged),
        ("gzip, chunked", chunked("gzip, chunked"), forged),
        ("chunked, twice", chunked("chunked\r\ntransfer-encoding: chunked"), forged),
        (
            "a chunk with an extension",
            smuggled("transfer-encoding: chunked", "2;a=b\r\n{}\r\n0\r\n\r\n"),
            forged,
        ),
        ("trailers", smuggled("transfer-encoding: chunked", "2\r\n{}\r\n0\r\nx-a: b\r\n\r\n"), forged),
        ("two spaces in the request line", line("POST  /hooks/fastpix HTTP/1.1"), "400 broken_request"),
        ("a tab in the request line", line("POST\t/hooks/fastpix HTTP/1.1"), "400 broken_request"),
        ("a method in lower case", line("post /hooks/fastpix HTTP/1.1"), "405 method_not_allowed"),
        ("an authority as target", line("POST x:80 HTTP/1.1"), "404 not_found"),
        ("an asterisk as target", line("POST * HTTP/1.1"), "404 not_found"),
        ("CONNECT", line("CONNECT x:80 HTTP/1.1"), "404 not_found"),
        ("a path with dots", line("POST /hooks/x/../fastpix HTTP/1.1"), "404 not_found"),
        ("a path that is encoded", line("POST /hooks/fastp%69x HTTP/1.1"), "404 not_found"),
        (
            "lines that are empty before it",
            [b"\r\n\r\n".to_vec(), line("POST /hooks/fastpix HTTP/1.1")].concat(),
            forged,
        ),
    ];
    for over in Over::HTTP1 {
        for (name, input, expected) in &cases {
            case(over, name, &[*expected], Setup::default(), async |target| {
                let mut client = target.connect().await;
                // What is behind it is not part of it, whatever comes of it.
                client.send(&[&input[..], &FastPix.request(b"{\"id\":\"behind\"}")].concat()).await.unwrap();
                let answer = told(&client.receive().await);
                if let Ok(behind) = client.receive().await {
                    assert_eq!(behind.taken(), "accepted", "{name}");
                }
                answer
            })
            .await;
        }
    }
}

#[tokio::test]
async fn requests_that_are_much() {
    let deep = ["[".repeat(500_000), "]".repeat(500_000)].concat();
    let bomb = gzip(10 << 20);
    for over in Over::HTTP1 {
        case(over, "1 MB of nested JSON", &["200 accepted"], Setup::default(), async |target| {
            told(&Ok(target.connect().await.ask(&FastPix.request(deep.as_bytes())).await))
        })
        .await;
        case(over, "a gzip bomb, 10 KB for 10 MiB", &["200 accepted"], Setup::default(), async |target| {
            let signature = FastPix.signature(&bomb);
            let headers = [(FastPix.header(), signature.as_str()), ("content-encoding", "gzip")];
            told(&Ok(target.connect().await.ask(&post("/hooks/fastpix", &headers, &bomb)).await))
        })
        .await;
        case(over, "10 MB of headers", &["431 head_too_large"], Setup::default(), async |target| {
            let mut client = target.connect().await;
            let mut pieces = 0;
            let piece = move || {
                pieces += 1;
                match pieces {
                    1 => Some(b"POST /hooks/fastpix HTTP/1.1\r\n".to_vec()),
                    2..=10_000 => Some(format!("x-header-{pieces}: {}\r\n", "x".repeat(1_000)).into_bytes()),
                    _ => None,
                }
            };
            answered(&mut client, piece).await
        })
        .await;
        case(over, "1 GB in chunks", &["413 body_too_large"], Setup::default(), async |target| {
            let mut client = target.connect().await;
            let signature = FastPix.signature(b"");
            let framing = [(FastPix.header(), signature.as_str()), ("transfer-encoding", "chunked")];
            client.send(&head("/hooks/fastpix", &framing)).await.unwrap();
            let (piece, mut left) = (chunk(&[b'x'; 64 << 10]), 1 << 14);
            let pieces = move || {
                left -= 1;
                (left > 0).then(|| piece.clone())
            };
            answered(&mut client, pieces).await
        })
        .await;
    }
}

async fn answered(client: &mut Client, piece: impl FnMut() -> Option<Vec<u8>>) -> String {
    told(&client.send_until_answered(piece).await.1)
}

/// So many zeros, packed by `gzip`.
pub(super) fn gzip(zeros: usize) -> Vec<u8> {
    let mut gzip =
        Command::new("gzip").arg("-9").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(&vec![0; zeros]));
    let output = gzip.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    output.stdout
}
