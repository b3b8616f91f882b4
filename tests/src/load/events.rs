//! Distinct signed events, ready to be written to a socket.

use std::{ops::Range, thread, time::SystemTime};

use hookbus_core::{Scheme, Secret, verify::ToSign};
use http::Method;

/// A recorded event of 1.2 KB; every prepared one differs from it in its ids.
const SAMPLE: &str = include_str!("../../vectors/events/fastpix/02-video.media.ready.json");
const SAMPLE_ID: &str = "43be8c0e-47c8-4719-bd32-fa7770e91b36";
const SAMPLE_OBJECT: &str = "239a1ece-b9fe-4bfb-a8e6-28e0b77da7ac";

/// So many different objects the events are about: more than one group, and groups of more than one event.
const OBJECTS: u64 = 4096;

/// Whole requests in memory, so that the clock never runs while something is signed.
#[derive(Debug)]
pub struct Events {
    chunks: Vec<Chunk>,
    per_chunk: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each request ends.
    ends: Vec<usize>,
}

/// What the requests look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The value of `Host`.
    pub host: &'a str,
    /// The path posted to.
    pub path: &'a str,
    /// The signing secret as the provider displays it.
    pub secret: &'a Secret,
}

impl Events {
    /// Signs `count` events, on all cores. The same count and secret give the same events in every run.
    ///
    /// # Errors
    /// Where the secret is no FastPix secret.
    pub fn prepare(count: usize, shape: Shape<'_>) -> Result<Self, String> {
        Self::range(0..count as u64, shape)
    }

    /// The events of these numbers, for a run that goes on where another one ended.
    ///
    /// # Errors
    /// As [`Events::prepare`].
    pub fn range(numbers: Range<u64>, shape: Shape<'_>) -> Result<Self, String> {
        let count = usize::try_from(numbers.end.saturating_sub(numbers.start))
            .map_err(|_| "so many events are not prepared at once")?;
        let scheme = Scheme::built_in("fastpix").ok_or("there is no built-in scheme `fastpix`")?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let per_chunk = count.div_ceil(cores).max(1);
        let chunks = thread::scope(|scope| {
            let work = (0..count).step_by(per_chunk).map(|first| {
                let (scheme, last) = (&scheme, count.min(first + per_chunk));
                let numbers = numbers.start + first as u64..numbers.start + last as u64;
                scope.spawn(move || Chunk::sign(numbers, scheme, shape))
            });
            let work = work.collect::<Vec<_>>();
            let joined = work.into_iter().map(|one| one.join().map_err(|_| "a signing thread panicked")?);
            joined.collect::<Result<Vec<_>, String>>()
        })?;
        Ok(Self { chunks, per_chunk, count })
    }

    /// How many distinct events there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes of one request; numbers past the last begin again at the first.
    pub fn request(&self, number: u64) -> &[u8] {
        let number = (number % self.count as u64) as usize;
        let (chunk, within) = (&self.chunks[number / self.per_chunk], number % self.per_chunk);
        let start = if within == 0 { 0 } else { chunk.ends[within - 1] };
        &chunk.bytes[start..chunk.ends[within]]
    }
}

impl Chunk {
    fn sign(numbers: Range<u64>, scheme: &Scheme, shape: Shape<'_>) -> Result<Self, String> {
        let Shape { host, path, secret } = shape;
        let mut chunk = Self::default();
        for number in numbers {
            let body = SAMPLE
                .replace(SAMPLE_ID, &uuid_like(number))
                .replace(SAMPLE_OBJECT, &uuid_like(u64::MAX - number % OBJECTS));
            let request = ToSign {
                secret,
                method: &Method::POST,
                url: path,
                id: "",
                event_type: "",
                now: SystemTime::UNIX_EPOCH,
                body: body.as_bytes(),
            };
            let signed = scheme.sign(request).map_err(|error| format!("cannot sign an event: {error}"))?;
            let mut head =
                format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
            head += &format!("content-length: {}\r\n", body.len());
            chunk.bytes.extend(head.as_bytes());
            for (name, value) in &signed {
                chunk.bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            }
            chunk.bytes.extend(b"\r\n");
            chunk.bytes.extend(body.as_bytes());
            chunk.ends.push(chunk.bytes.len());
        }
        Ok(chunk)
    }
}

/// Text like a random UUID, the same for the same number.
fn uuid_like(number: u64) -> String {
    let (high, low) = (mix(number.wrapping_mul(2)), mix(number.wrapping_mul(2).wrapping_add(1)));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        ((low >> 48) & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// SplitMix64: spreads consecutive numbers over all 64 bits and maps no two to the same.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn prepared(count: usize) -> Events {
        // Any base64 text is a FastPix secret.
        let secret = Secret::new("aG9va2J1cyBsb2FkIGdlbmVyYXRvciBzZWNyZXQ=");
        Events::prepare(count, Shape { host: "localhost", path: "/hooks/fastpix", secret: &secret }).unwrap()
    }

    #[test]
    fn events_are_distinct_and_begin_again_at_the_end() {
        let events = prepared(101);
        let distinct = (0..101).map(|number| events.request(number)).collect::<BTreeSet<_>>();
        assert_eq!(distinct.len(), 101);
        assert_eq!(events.request(101), events.request(0));
        assert_eq!(events.request(303 + 100), events.request(100));
    }

    #[test]
    fn a_request_is_a_signed_post_of_the_length_it_states() {
        let events = prepared(3);
        let text = std::str::from_utf8(events.request(2)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hooks/fastpix HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nfastpix-signature: "), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
        assert!(!body.contains(SAMPLE_ID) && !body.contains(SAMPLE_OBJECT));
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }

    #[test]
    fn a_range_goes_on_where_another_one_ended() {
        let all = prepared(101);
        let secret = Secret::new("aG9va2J1cyBsb2FkIGdlbmVyYXRvciBzZWNyZXQ=");
        let shape = Shape { host: "localhost", path: "/hooks/fastpix", secret: &secret };
        let rest = Events::range(90..101, shape).unwrap();
        assert_eq!(rest.count(), 11);
        assert!((0..11).all(|number| rest.request(number) == all.request(90 + number)));
    }

    #[test]
    fn the_same_events_in_every_run() {
        assert_eq!(prepared(5).request(4), prepared(5).request(4));
        assert_eq!(uuid_like(0).len(), SAMPLE_ID.len());
    }
}
