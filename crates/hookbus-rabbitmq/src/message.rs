//! An event as a message: CloudEvents attributes as headers `ce-*`, and the properties AMQP has names for.

use hookbus_core::{Envelope, ErrorKind, SinkError};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

/// The longest short string.
const SHORT: usize = 255;
/// What a header frame holds beside its properties: the frame itself, class, weight, body size and property flags.
const FRAME: usize = 8 + 12 + 2;
const PERSISTENT: u8 = 2;

/// A message, ready to be sent.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    /// Bytes of the frame that carries the properties.
    header: usize,
}

/// The exchange an address names: without one it is the default exchange, whose name is empty.
pub(crate) fn exchange(envelope: &Envelope) -> &str {
    envelope.address.get("exchange").unwrap_or_default()
}

/// The routing key of an address.
pub(crate) fn routing_key(envelope: &Envelope) -> &str {
    // Invariant: `routing-key` is required, so every address has it.
    envelope.address.get("routing-key").unwrap_or_default()
}

impl Message {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        let event = &envelope.event;
        let mut headers = Headers::default();
        event.attributes(|name, value| match name {
            // Its place is the property `content_type`; a header only where it does not fit in there.
            "datacontenttype" if value.len() <= SHORT => {}
            _ => headers.add(&format!("ce-{name}"), value.as_bytes()),
        });
        event.proof_headers().for_each(|(name, value)| headers.add(name, value));
        let (id, event_type) = (short(event.id().as_str()), short(event.event_type()));
        let mut header = FRAME + headers.bytes + id.as_str().len() + event_type.as_str().len() + 64;
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id)
            .with_type(event_type)
            .with_app_id("hookbus".into())
            .with_headers(headers.table);
        if let Some(content_type) = event.content_type().map(short) {
            header += content_type.as_str().len();
            properties = properties.with_content_type(content_type);
        }
        if let Some(encoding) = event.content_encoding().map(short) {
            header += encoding.as_str().len();
            properties = properties.with_content_encoding(encoding);
        }
        // Of what was before 1970 AMQP has no word.
        if let Ok(seconds) = u64::try_from(event.timestamp().unix_seconds()) {
            properties = properties.with_timestamp(seconds);
        }
        let (exchange, routing_key) = (exchange(envelope).into(), routing_key(envelope).into());
        Self { exchange, routing_key, properties, header }
    }

    /// Whether the broker would take it. A frame larger than was agreed upon ends the connection, and so does a body
    /// over the limit with the channel: neither must be tried.
    pub(crate) fn check(&self, body: usize, max_body: usize, max_frame: usize) -> Result<(), SinkError> {
        let too_large = |text| Err(SinkError::new(ErrorKind::TooLarge, "publish", text));
        if body > max_body {
            return too_large(format!(
                "the body has {body} bytes, more than `max-message-size` ({max_body})"
            ));
        }
        if self.header > max_frame {
            let header = self.header;
            return too_large(format!(
                "attributes and proof take {header} bytes, more than a frame ({max_frame})"
            ));
        }
        Ok(())
    }

    /// Whether a message with these headers is this one. The broker's plugins may have added some.
    pub(crate) fn has_headers_of(&self, returned: &BasicProperties) -> bool {
        let headers = |properties: &BasicProperties| properties.headers().clone().unwrap_or_default();
        let (ours, theirs) = (headers(&self.properties), headers(returned));
        self.properties.message_id() == returned.message_id()
            && ours.inner().iter().all(|(name, value)| theirs.inner().get(name.as_str()) == Some(value))
    }
}

/// A table of headers and its length on the wire.
#[derive(Default)]
struct Headers {
    table: FieldTable,
    bytes: usize,
}

impl Headers {
    fn add(&mut self, name: &str, value: &[u8]) {
        let name = short(name);
        self.bytes += name.as_str().len() + value.len() + 6;
        self.table.insert(name, AMQPValue::LongString(LongString::from(value)));
    }
}

/// As much of a text as a short string has room for. What is cut stands in full in a header.
fn short(text: &str) -> ShortString {
    text[..text.floor_char_boundary(SHORT)].into()
}

#[cfg(test)]
mod tests {
    use hookbus_testkit::{TestEvent, address};

    use super::*;
    use crate::RabbitMq;

    fn envelope(event: TestEvent) -> Envelope {
        let keys = [("exchange", "hooks"), ("routing-key", "media")];
        Envelope::new(event.build(), address::<RabbitMq>(&keys))
    }

    fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
        match message.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        }
    }

    #[test]
    fn attributes_are_headers_and_properties() {
        let envelope = envelope(TestEvent::new("fastpix").id("e1").subject("media-1"));
        let message = Message::of(&envelope);
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("hooks", "media"));
        assert_eq!(header(&message, "ce-id"), Some("e1"));
        assert_eq!(header(&message, "ce-source"), Some("/hooks/fastpix"));
        assert_eq!(header(&message, "ce-specversion"), Some("1.0"));
        assert_eq!(header(&message, "ce-subject"), Some("media-1"));
        assert_eq!(header(&message, "ce-datacontenttype"), None);
        let (name, value) = envelope.event.proof_headers().next().unwrap();
        assert_eq!(header(&message, name).map(str::as_bytes), Some(value));
        let properties = &message.properties;
        let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        assert_eq!(text(properties.message_id()).as_deref(), Some("e1"));
        assert_eq!(text(properties.kind()).as_deref(), Some(envelope.event.event_type()));
        assert_eq!(text(properties.app_id()).as_deref(), Some("hookbus"));
        assert_eq!(text(properties.content_type()).as_deref(), envelope.event.content_type());
        assert_eq!(*properties.delivery_mode(), Some(2));
        let seconds = u64::try_from(envelope.event.timestamp().unix_seconds()).unwrap();
        assert_eq!(*properties.timestamp(), Some(seconds));
    }

    #[test]
    fn what_is_too_long_for_a_property_is_cut_between_characters() {
        let id = "é".repeat(200);
        let message = Message::of(&envelope(TestEvent::new("fastpix").id(&*id)));
        assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), "é".repeat(127));
        assert_eq!(header(&message, "ce-id"), Some(&*id));
    }

    #[test]
    fn what_the_broker_would_not_take_is_known_before() {
        let message = Message::of(&envelope(TestEvent::new("fastpix").id("e1").subject("s".repeat(5000))));
        assert!(message.check(10, 10, 131_072).is_ok());
        let body = message.check(11, 10, 131_072).unwrap_err();
        assert!(body.kind() == ErrorKind::TooLarge && body.message().contains("max-message-size"), "{body}");
        let header = message.check(10, 10, 4096).unwrap_err();
        assert!(header.kind() == ErrorKind::TooLarge && header.message().contains("frame"), "{header}");
    }
}
