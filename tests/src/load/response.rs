//! Reads one HTTP/1.1 response: its status and its end, nothing else.

use std::io::{self, ErrorKind};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

/// No answer to a webhook needs more; a longer head is an error, a longer body is read in pieces.
const BUFFER: usize = 16 * 1024;

/// Reads responses from a connection, one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Box<[u8]>,
}

/// What the head of a response says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head, the empty line included.
    head: usize,
    body: usize,
    closes: bool,
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether the server ends the connection after it.
    pub(super) closes: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER].into() }
    }
}

impl Reader {
    /// Reads the one response that is due. More bytes than that are an error: nothing else was asked for.
    pub(super) async fn read(&mut self, stream: &mut TcpStream) -> io::Result<Answer> {
        self.read_from(stream).await
    }

    async fn read_from(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
        let mut filled = 0;
        let head = loop {
            if filled == self.buffer.len() {
                return Err(broken("the head of the response is too long"));
            }
            let count = stream.read(&mut self.buffer[filled..]).await?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += count;
            if let Some(head) = parse(&self.buffer[..filled])? {
                break head;
            }
        };
        let mut got = filled - head.head;
        while got < head.body {
            let count = stream.read(&mut self.buffer).await?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            got += count;
        }
        if got > head.body {
            return Err(broken("there are bytes behind the response"));
        }
        Ok(Answer { status: head.status, closes: head.closes })
    }
}

/// Reads a head, or `None` where its end has not arrived.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text =
        std::str::from_utf8(&bytes[..end]).map_err(|_| broken("the head of the response is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| broken("this is not an HTTP/1.1 response"))?;
    let (mut body, mut closes) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let body = if matches!(status, 204 | 304) { Some(0) } else { body };
    let body = body.ok_or_else(|| broken("the response states no Content-Length"))?;
    Ok(Some(Head { status, head: end + 4, body, closes }))
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, runtime::Builder};

    use super::*;

    fn read(pieces: &[&str]) -> io::Result<Answer> {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(1 << 20);
            for piece in pieces {
                far.write_all(piece.as_bytes()).await.unwrap();
            }
            drop(far);
            Reader::default().read_from(&mut near).await
        })
    }

    #[test]
    fn status_length_and_close_are_read() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(read(&[plain]).unwrap(), Answer { status: 200, closes: false });
        let closing = "HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(read(&[closing]).unwrap(), Answer { status: 503, closes: true });
        assert_eq!(read(&["HTTP/1.1 204 No Content\r\n\r\n"]).unwrap().status, 204);
    }

    #[test]
    fn a_body_longer_than_the_buffer_is_read_to_its_end() {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 3 * BUFFER);
        assert_eq!(read(&[&head, &"x".repeat(3 * BUFFER)]).unwrap().status, 200);
    }

    #[test]
    fn what_is_no_single_response_is_an_error() {
        for (text, says) in [
            ("", "end of file"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "end of file"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", "bytes behind"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "no Content-Length"),
            ("SSH-2.0-x\r\n\r\n", "not an HTTP/1.1"),
        ] {
            let error = read(&[text]).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert!(read(&["x".repeat(BUFFER).as_str()]).unwrap_err().to_string().contains("too long"));
    }
}
