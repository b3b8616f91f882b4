//! What routing one event costs: with 1,000 routes about as much as with one.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion};
use hookbus_core::{
    RequestHead, Router, Scheme, Secret, VerifiedEvent, Verifier,
    route::{Route, Target},
    sink::AddressKey,
    verify::{Examined, ToSign},
};
use http::{HeaderMap, Method};

const SOURCE: &str = "bench";

/// The types of a route of each shape, and an event type it decides about.
type Shape = (&'static str, fn(usize) -> Vec<String>, fn(usize) -> String);

const SHAPES: [Shape; 4] = [
    ("prefix", |n| vec![format!("{}.media.*", word(n))], |n| format!("{}.media.created", word(n))),
    ("infix", |n| vec![format!("*.{}.*", word(n))], |n| format!("video.{}.ready", word(n))),
    ("suffix", |n| vec![format!("*.{}", word(n))], |n| format!("video.media.{}", word(n))),
    (
        "excluded",
        |n| vec![format!("{}.*", word(n)), format!("!*.internal.{}", word(n))],
        |n| format!("{0}.internal.{0}", word(n)),
    ),
];

/// A word of its own for each number below 1,000; none is part of another.
fn word(number: usize) -> String {
    let syllables = ["ba", "ci", "do", "fu", "ge", "hy", "ka", "li", "mo", "nu"];
    [number / 100, number / 10, number].map(|digit| syllables[digit % 10]).concat()
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let verifier = Events::new();
    for (at, (shape, _, event_type)) in SHAPES.iter().enumerate() {
        // The route in question is the last one; whole shapes come before it.
        let number = 996 + at;
        for (count, router) in [(1, router(number..number + 1)), (1000, router(0..1000))] {
            let hit = verifier.event(&event_type(number));
            assert_eq!(router.route(&hit).destinations.len(), usize::from(*shape != "excluded"), "{shape}");
            criterion.bench_function(&format!("{shape}/{count}"), |bench| {
                bench.iter(|| router.route(black_box(&hit)));
            });
        }
    }
    let miss = verifier.event("invoice.payment.failed");
    let mut fresh = 0;
    for (count, router) in [(1, router(996..997)), (1000, router(0..1000))] {
        assert!(router.route(&miss).is_ignored());
        criterion
            .bench_function(&format!("miss/{count}"), |bench| bench.iter(|| router.route(black_box(&miss))));
        // No type comes twice, so that no cache could help; few at a time, so that their memory is still warm.
        for (name, prefix) in [
            ("fresh-hit", format!("{}.media.take", word(996))),
            ("fresh-miss", "invoice.payment.try".to_owned()),
        ] {
            criterion.bench_function(&format!("{name}/{count}"), |bench| {
                let setup = || {
                    fresh += 1;
                    let never_seen = [fresh / 1_000_000, fresh / 1000, fresh].map(word).join("-");
                    verifier.event(&format!("{prefix}-{never_seen}"))
                };
                bench.iter_batched_ref(setup, |event| router.route(event), BatchSize::NumIterations(64));
            });
        }
    }
    criterion.final_summary();
}

/// Routes of all shapes in turn, each to the same topic.
fn router(numbers: std::ops::Range<usize>) -> Router {
    let topic = AddressKey::required("topic");
    let route = |number: usize| {
        let (_, types, _) = SHAPES[number % SHAPES.len()];
        Route {
            name: format!("route-{number}").into(),
            sources: Vec::new(),
            types: types(number).iter().map(|text| text.parse().expect("it is a pattern")).collect(),
            to: vec![Target { sink: 0, address: vec![(topic, "hooks".parse().expect("it is a template"))] }],
        }
    };
    Router::new([Arc::from(SOURCE)], &numbers.map(route).collect::<Vec<_>>())
        .expect("the addresses are sound")
}

/// Makes events the only way there is: signs them and verifies them.
struct Events {
    scheme: Arc<Scheme>,
    secret: Secret,
    verifier: Verifier,
}

impl Events {
    fn new() -> Self {
        let (scheme, secret) = (Scheme::built_in("fastgen").expect("it is built in"), Secret::new("secret"));
        let (verifier, _) = Verifier::new(SOURCE, Arc::clone(&scheme), None, std::slice::from_ref(&secret));
        Self { scheme, secret, verifier }
    }

    fn event(&self, event_type: &str) -> VerifiedEvent {
        let (method, now) = (Method::POST, std::time::SystemTime::now());
        let body = format!(r#"{{"id":"1","event":"{event_type}"}}"#);
        let (secret, body_bytes) = (&self.secret, body.as_bytes());
        let to_sign = ToSign { secret, method: &method, url: "", id: "", event_type, now, body: body_bytes };
        let headers: HeaderMap = self.scheme.sign(to_sign).expect("the secret fits").into_iter().collect();
        match self.verifier.examine(RequestHead { method: &method, query: None, headers: &headers }) {
            Ok(Examined::Claim(claim)) => claim.verify(body.into(), now).expect("it was signed"),
            Ok(_) | Err(_) => unreachable!("the request is signed"),
        }
    }
}
