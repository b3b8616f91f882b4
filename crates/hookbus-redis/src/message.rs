//! How an event is laid out as an entry of a stream.

use hookbus_core::{Envelope, VerifiedEvent};
use redis::Cmd;

/// How a stream is kept short, as arguments of `XADD`.
#[derive(Clone, Debug)]
pub(crate) enum Trim {
    /// It is not.
    Never,
    /// By the number of entries, roughly.
    MaxLen(u64),
    /// By the lowest id, in milliseconds since 1970, roughly.
    MinId(u128),
}

/// What is sent for one event beside its body, about.
const OVERHEAD: usize = 640;

/// The `XADD` of one event. The fields have a fixed order, so that a stream stores their names once for many entries.
pub(crate) fn xadd(envelope: &Envelope, trim: &Trim) -> Cmd {
    let event = &envelope.event;
    let mut command = Cmd::with_capacity(32, event.body().len() + OVERHEAD);
    // Invariant: `stream` is required, so every address has it.
    command.arg("XADD").arg(envelope.address.get("stream").unwrap_or_default());
    match trim {
        Trim::Never => {}
        Trim::MaxLen(entries) => {
            command.arg("MAXLEN").arg("~").arg(*entries);
        }
        Trim::MinId(millis) => {
            command.arg("MINID").arg("~").arg(millis.to_string());
        }
    }
    // The server numbers the entries: its ids must grow, and a provider's times do not.
    command.arg("*");
    fields(event, |name, value| {
        command.arg(name).arg(value);
    });
    command
}

/// The fields of an entry, in their order: the body is the last.
fn fields(event: &VerifiedEvent, mut each: impl FnMut(&str, &[u8])) {
    event.binary("ce_", &mut each);
    each("data", event.body());
}

#[cfg(test)]
mod tests {
    use hookbus_testkit::TestEvent;

    use super::*;

    #[test]
    fn fields_have_a_fixed_order_and_the_body_is_last() {
        let event = TestEvent::new("fastpix").id("e1").subject("m1").build();
        let (mut names, mut body) = (Vec::new(), Vec::new());
        fields(&event, |name, value| {
            names.push(name.to_owned());
            body = value.to_vec();
        });
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
            "data",
        ];
        assert_eq!(names, expected);
        assert_eq!(body, &event.body()[..]);
    }
}
