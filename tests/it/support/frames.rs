//! HTTP/2 as frames: whatever a test wants to send, and what comes back.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Trust, http::in_time, wire::Wire};

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection that has said its preface and its settings.
pub(crate) struct Frames {
    wire: Wire,
}

/// Kinds of frames, and flags.
impl Frame {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const CONTINUATION: u8 = 9;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;

    /// The status of a response's head, where it is one that the table of HPACK has.
    pub(crate) fn status(&self) -> Option<u16> {
        let known = [(0x88, 200), (0x8c, 400), (0x8d, 404)];
        // The first one says that there is no table.
        let block = self.payload.strip_prefix(&[0x20]).unwrap_or(&self.payload);
        let (first, rest) = block.split_first().filter(|_| self.kind == Self::HEADERS)?;
        let indexed = known.iter().find(|(byte, _)| byte == first).map(|(_, status)| *status);
        // Else a literal with the name `:status`, three digits long, in Huffman's code or plain.
        indexed.or_else(|| {
            let (length, digits) = rest.split_first()?;
            let text = if length & 0x80 == 0 { digits[..3].to_vec() } else { huffman_digits(digits) };
            std::str::from_utf8(&text).ok()?.parse().ok()
        })
    }
}

/// Three digits in Huffman's code of HPACK: 0 to 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let (mut digits, mut at) = (Vec::new(), 0);
    let number = |bits: &[bool]| bits.iter().fold(0, |number, bit| number << 1 | u8::from(*bit));
    while digits.len() < 3 && at + 5 <= bits.len() {
        match number(&bits[at..at + 5]) {
            short @ 0..=2 => {
                digits.push(b'0' + short);
                at += 5;
            }
            _ => {
                digits.push(b'3' + number(&bits[at..at + 6]) - 0x19);
                at += 6;
            }
        }
    }
    digits
}

impl Frames {
    /// Connects in clear, with these settings.
    pub(crate) async fn connect(address: SocketAddr, settings: &[u8]) -> io::Result<Self> {
        let stream = in_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Self::over(Wire::Tcp(stream), settings).await
    }

    /// Connects by TLS.
    pub(crate) async fn connect_tls(address: SocketAddr, trust: &Trust, settings: &[u8]) -> io::Result<Self> {
        Self::over(Wire::Tls(Box::new(in_time(trust.connect(address)).await?)), settings).await
    }

    async fn over(wire: Wire, settings: &[u8]) -> io::Result<Self> {
        let mut frames = Self { wire };
        // No table of headers, so that each of ours can be read alone.
        let first = frame(Frame::SETTINGS, 0, 0, &[&[0, 1, 0, 0, 0, 0], settings].concat());
        frames.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &first[..]].concat()).await?;
        Ok(frames)
    }

    /// Sends bytes: frames, or what is none.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time(async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        })
        .await
    }

    /// Receives a frame.
    pub(crate) async fn receive(&mut self) -> io::Result<Frame> {
        in_time(async {
            let mut head = [0; 9];
            self.wire.read_exact(&mut head).await?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            self.wire.read_exact(&mut payload).await?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
            Ok(Frame { kind: head[3], flags: head[4], stream, payload })
        })
        .await
    }

    /// Receives until there is one of this kind; nothing, where the connection ends before it.
    pub(crate) async fn receive_kind(&mut self, kind: u8) -> Option<Frame> {
        loop {
            match self.receive().await {
                Ok(frame) if frame.kind == kind => return Some(frame),
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::TimedOut, "neither that frame nor the end");
                    return None;
                }
            }
        }
    }

    /// Waits for the end of the connection, whatever comes before, and returns the code of the last GOAWAY, where that
    /// came through.
    pub(crate) async fn ended(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.receive_kind(Frame::GOAWAY).await {
            code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
        code
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A block of headers, each a literal that no table remembers.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0x10);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length with a prefix of seven bits, no Huffman.
fn integer(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(127) else { return block.push(number as u8) };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
