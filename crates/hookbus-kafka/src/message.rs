//! How an event is laid out as a record.

use hookbus_core::Envelope;
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::BaseRecord,
};

use crate::call::Slot;

/// What stands before an attribute in the name of its header (CloudEvents, Kafka protocol binding).
const HEADERS: &str = "ce_";
/// The header of a batch of records, version 2, in bytes (Kafka protocol, "Record Batch").
const BATCH: usize = 61;

/// The record of one event.
pub(crate) fn record<'a>(
    envelope: &'a Envelope,
    topic: &'a str,
    slot: Box<Slot>,
) -> BaseRecord<'a, str, [u8], Box<Slot>> {
    let event = &envelope.event;
    // Never absent: a record without a value deletes its key on a compacted topic.
    let mut record = BaseRecord::with_opaque_to(topic, slot).payload(&event.body()[..]);
    record.headers = Some(OwnedHeaders::new_with_capacity(12));
    event.binary(HEADERS, |key, value| {
        record.headers =
            record.headers.take().map(|headers| headers.insert(Header { key, value: Some(value) }));
    });
    match envelope.address.get("key") {
        Some(key) => record.key(key),
        None => record,
    }
}

/// The size of a batch that holds this event alone, in bytes, uncompressed: what a topic's `max.message.bytes` is
/// compared with.
pub(crate) fn batch_size(envelope: &Envelope) -> usize {
    let event = &envelope.event;
    let (mut headers, mut count) = (0, 0);
    event.binary(HEADERS, |key, value| {
        count += 1;
        headers += prefixed(key.len()) + prefixed(value.len());
    });
    let key = envelope.address.get("key").map_or(1, |key| prefixed(key.len()));
    // Attributes, and the differences of time and offset to the batch: a byte each for a batch of one.
    let record = 3 + key + prefixed(event.body().len()) + varint(count) + headers;
    BATCH + prefixed(record)
}

/// The bytes of something with its length before it.
fn prefixed(length: usize) -> usize {
    varint(length) + length
}

/// The bytes of a zigzag variable-length integer.
fn varint(number: usize) -> usize {
    let bits = usize::BITS - (number << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use hookbus_testkit::TestEvent;

    use super::*;

    #[test]
    fn headers_have_a_fixed_order() {
        let event = TestEvent::new("fastpix").subject("m1").build();
        let mut keys = Vec::new();
        event.binary(HEADERS, |key, _| keys.push(key.to_owned()));
        let expected = [
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_time",
            "ce_subject",
            "ce_hookbusunsigned",
            "ce_traceparent",
            "fastpix-signature",
            "content-type",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn variable_length_integers_are_zigzag() {
        for (number, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1 << 20, 4)] {
            assert_eq!(varint(number), bytes, "{number}");
        }
    }
}
