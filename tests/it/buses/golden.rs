//! The documented layout, name by name: what a consumer finds of one event, all of it and nothing else.

use std::{collections::BTreeMap, time::SystemTime};

use hookbus_brokers::Kind;
use serde_json::{Value, json};

use super::{
    consumer::Consumed,
    layout::{attributes, is_new_trace},
    places::Places,
    send,
};
use crate::{
    corpus::video,
    support::{Provider, in_company},
};

const ID: &str = "5a1f0c1e-0000-4000-8000-000000000001";
const OBJECT: &str = "5a1f0c1e-0000-4000-9000-000000000002";

/// An event, and what is documented of it.
struct Golden {
    body: Vec<u8>,
    provider: Provider,
    event_type: &'static str,
    subject: Option<&'static str>,
    time: String,
    /// The trace that began here.
    trace: String,
    /// Seconds since 1970.
    timestamp: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bus_shows_an_event_as_it_is_documented() {
    let Some(places) = Places::make().await else { return };
    let _in_company = in_company().await;
    let bridge = places.bridge().await;
    let mut video = Golden {
        body: video(ID, OBJECT),
        provider: Provider::FastPix,
        event_type: "video.media.ready",
        subject: Some(OBJECT),
        time: "2026-01-12T06:43:14.430451085Z".into(),
        trace: String::new(),
        timestamp: 1_768_200_194,
    };
    let body =
        format!(r#"{{"id":"{ID}", "event":"workflow-finished","payload":{{"n":1.50, "ü":"\u00fc"}} }}"#);
    let mut workflow = Golden {
        body: body.into_bytes(),
        provider: Provider::Fastgen,
        event_type: "workflow-finished",
        subject: None,
        // When it was received; filled in below.
        time: String::new(),
        trace: String::new(),
        timestamp: 0,
    };
    let begun = seconds();
    send(&bridge, video.provider, &video.body).await;
    send(&bridge, workflow.provider, &workflow.body).await;
    let ended = seconds();

    for bus in &places.buses {
        let kind = bus.kind();
        let mut found = places.consumer(bus).all().await;
        found.sort_by_key(|found| found.body != video.body);
        let [of_video, of_workflow] = &mut found[..] else { panic!("{kind}: {found:#?}") };
        if workflow.time.is_empty() {
            // The first bus says it, and the others have to agree.
            workflow.time = of_workflow.headers[4].1.clone();
        }
        for (golden, found) in [(&mut video, &*of_video), (&mut workflow, &*of_workflow)] {
            if golden.trace.is_empty() {
                golden.trace = attributes(kind, found).remove("traceparent").unwrap();
                assert!(is_new_trace(&golden.trace), "{found:?}");
            }
        }
        if kind == Kind::RabbitMq {
            workflow.timestamp = of_workflow.properties["timestamp"].as_u64().unwrap();
            assert!((begun..=ended).contains(&workflow.timestamp), "{of_workflow:?}");
        }
        for (golden, found) in [(&mut video, of_video), (&mut workflow, of_workflow)] {
            // A table, whose order means nothing.
            if kind == Kind::RabbitMq {
                found.headers.sort();
            }
            assert_eq!(*found, golden.on(kind, &found.position), "{kind}");
            check_position(kind, &places.name, &found.position);
        }
    }
    places.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bus_shows_a_structured_event_and_a_masked_one_as_they_are_documented() {
    let Some(places) = Places::make().await else { return };
    let _in_company = in_company().await;
    let body = br#"{"id":"e1", "type":"it.live","data":{ "streamKey":"s3cr3t" }}"#;
    let masked = r#"{"id":"e1", "type":"it.live","data":{ "streamKey":"***" }}"#;
    let envelope = "application/cloudevents+json; charset=UTF-8";
    for (form, is_structured) in [("format = \"structured\"", true), ("redact = true", false)] {
        let bridge = places.bridge_with("redact = [\"/data/streamKey\"]", form).await;
        send(&bridge, Provider::FastPix, body).await;
        for bus in &places.buses {
            let kind = bus.kind();
            let mut found = places.consumer(bus).all().await;
            let Some(found) = found.pop() else { panic!("{kind}: nothing came") };
            let attributes = attributes(kind, &found);
            if is_structured {
                assert_eq!(
                    attributes,
                    [("datacontenttype".to_owned(), envelope.to_owned())].into(),
                    "{kind}"
                );
                let text = std::str::from_utf8(&found.body).unwrap();
                assert!(
                    text.ends_with(&format!(r#","data":{}}}"#, std::str::from_utf8(body).unwrap())),
                    "{kind}: {text}"
                );
                let json: Value = serde_json::from_str(text).unwrap();
                let proof: Value = serde_json::from_str(json["hookbusproof"].as_str().unwrap()).unwrap();
                assert_eq!(proof[Provider::FastPix.header()], Provider::FastPix.signature(body), "{kind}");
                assert_eq!((&json["specversion"], &json["id"]), (&"1.0".into(), &"e1".into()), "{kind}");
                assert_eq!(json["source"], "/hooks/fastpix", "{kind}");
            } else {
                assert_eq!(std::str::from_utf8(&found.body).unwrap(), masked, "{kind}");
                assert_eq!(attributes["hookbusredacted"], r#"["/data/streamKey"]"#, "{kind}");
                assert!(
                    !attributes.contains_key(Provider::FastPix.header()) && !found.authentic,
                    "{kind}: {found:?}"
                );
            }
            if kind == Kind::RabbitMq {
                assert_eq!(
                    (&found.properties["message_id"], &found.properties["type"]),
                    (&json!("e1"), &json!("it.live"))
                );
            }
        }
    }
    places.remove().await;
}

impl Golden {
    /// What a consumer of this bus finds.
    fn on(&self, kind: Kind, position: &str) -> Consumed {
        let prefix = if kind == Kind::RabbitMq { "ce-" } else { "ce_" };
        let signature = self.provider.signature(&self.body);
        let attributes = [
            ("specversion", Some("1.0")),
            ("id", Some(ID)),
            (
                "source",
                Some(if self.provider == Provider::FastPix { "/hooks/fastpix" } else { "/hooks/fastgen" }),
            ),
            ("type", Some(self.event_type)),
            ("time", Some(&*self.time)),
            ("subject", self.subject),
            ("hookbusunsigned", Some("datacontenttype")),
            ("traceparent", Some(&*self.trace)),
        ];
        let attributes = attributes.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut headers: Vec<_> =
            attributes.map(|(name, value)| (format!("{prefix}{name}"), value.to_owned())).collect();
        headers.push((self.provider.header().to_owned(), signature));
        let mut properties = BTreeMap::<String, Value>::new();
        if kind == Kind::RabbitMq {
            headers.sort();
            properties.extend([
                ("content_type".into(), json!("application/json")),
                ("delivery_mode".into(), json!(2)),
                ("message_id".into(), json!(ID)),
                ("type".into(), json!(self.event_type)),
                ("timestamp".into(), json!(self.timestamp)),
                ("app_id".into(), json!("hookbus")),
            ]);
        } else {
            headers.push(("content-type".into(), "application/json".into()));
        }
        Consumed {
            position: position.to_owned(),
            key: self.subject.filter(|_| kind == Kind::Kafka).map(str::to_owned),
            properties,
            headers,
            body: self.body.clone(),
            authentic: true,
            duplicate: false,
        }
    }
}

/// The bus numbers events itself; only the form is known.
fn check_position(kind: Kind, name: &str, position: &str) {
    let number = |text: &str| text.parse::<u64>().is_ok();
    let two = |text: Option<(&str, &str)>| text.is_some_and(|(one, two)| number(one) && number(two));
    let good = match kind {
        Kind::Redis => two(position.split_once('-')),
        Kind::RabbitMq => number(position),
        Kind::Kafka => two(position.strip_prefix(&format!("{name}/")).and_then(|at| at.split_once('@'))),
    };
    assert!(good, "{kind}: {position}");
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
