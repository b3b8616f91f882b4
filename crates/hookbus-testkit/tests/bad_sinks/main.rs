//! Proves the kit: a good sink passes every case, and each deliberately bad one is caught by the case that names its
//! flaw.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod destination;
mod flaw;
mod sink;
mod sloppy;

use std::{marker::PhantomData, time::Duration};

use hookbus_core::{Address, Envelope};
use hookbus_testkit::{FaultProxy, Fixture, Observed, Skip, address, async_trait, cases::*};

use destination::{Destination, LONGEST, TOKEN};
use flaw::{Flaw, Flawed};
use sink::Lines;

/// The destination behind a proxy, with a sink of this flaw.
struct LinesFixture<K> {
    destination: Destination,
    proxy: FaultProxy,
    token: tempfile::NamedTempFile,
    flaw: PhantomData<K>,
}

#[async_trait]
impl<K: Flawed> Fixture for LinesFixture<K> {
    type Plugin = Lines<K>;

    async fn start() -> Result<Self, Skip> {
        let destination = Destination::start().await;
        let proxy = FaultProxy::start(destination.address).await.unwrap();
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), TOKEN).unwrap();
        Ok(Self { destination, proxy, token, flaw: PhantomData })
    }

    fn config(&self) -> String {
        format!(
            "address = '{}'\ntoken = {{ file = '{}' }}\n",
            self.proxy.address(),
            self.token.path().display()
        )
    }

    async fn address(&self, n: usize) -> Address {
        address::<Lines<K>>(&[("topic", &format!("topic-{n}"))])
    }

    async fn read(&self, address: &Address) -> Vec<Observed> {
        self.destination.topics().events.get(address.get("topic").unwrap()).cloned().unwrap_or_default()
    }

    fn patience(&self) -> Duration {
        // What a bad sink never does is waited for in vain.
        Duration::from_secs(if K::FLAW == Flaw::None { 60 } else { 5 })
    }

    fn proxy(&self) -> Result<&FaultProxy, Skip> {
        Ok(&self.proxy)
    }

    async fn missing(&self) -> Result<Address, Skip> {
        self.destination.topics().missing.insert("missing".into());
        Ok(address::<Lines<K>>(&[("topic", "missing")]))
    }

    async fn mend(&self, address: &Address) -> Result<(), Skip> {
        self.destination.topics().missing.remove(address.get("topic").unwrap());
        Ok(())
    }

    fn largest_body(&self, like: &Envelope) -> Result<usize, Skip> {
        let mut line = Vec::new();
        like.event.write_structured(&mut line);
        Ok(LONGEST + 1 - line.len() + like.event.body().len())
    }

    fn secrets(&self) -> Result<Vec<String>, Skip> {
        Ok(vec![TOKEN.into()])
    }

    async fn gone(&self) -> Result<(), Skip> {
        self.destination.stop().await;
        Ok(())
    }

    async fn back(&self) {
        self.destination.start_again().await;
    }
}

struct Good;

impl Flawed for Good {
    const FLAW: Flaw = Flaw::None;
}

hookbus_testkit::sink_conformance!(good: LinesFixture<Good>);

#[test]
fn every_case_catches_somebody() {
    let list = include_str!("../../src/suite.rs").split_once("@tests $fixture;").unwrap().1;
    let cases = list.split_once('}').unwrap().0.split([':', ',', ';']).map(str::trim);
    let caught = concat!(include_str!("main.rs"), include_str!("sloppy.rs"));
    for case in cases.filter(|name| name.contains('_')) {
        assert!(caught.contains(&format!("::{case}")), "no bad sink is caught by {case}");
    }
}

/// Writes a test that a flaw is caught by a case, for the reason that is part of its panic.
macro_rules! caught {
    ($($test:ident: $flaw:ident, $group:ident::$case:ident, $reason:literal;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                struct This;
                impl Flawed for This {
                    const FLAW: Flaw = Flaw::$flaw;
                }
                assert_caught(tokio::spawn($group::$case::<LinesFixture<This>>()), $reason).await;
            }
        )+
    };
}

async fn assert_caught(case: tokio::task::JoinHandle<Result<(), Skip>>, reason: &str) {
    let panic = case.await.expect_err("the case passed").into_panic();
    let message = panic.downcast_ref::<String>().cloned();
    let message = message.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap();
    assert!(message.contains(reason), "caught for another reason: {message}");
}

caught! {
    // Lifecycle.
    sending_to_probe: ProbeSends, lifecycle::a_probe_sends_nothing, "a probe sent";
    stumbling_over_an_empty_batch: LeaksPayload, lifecycle::an_empty_batch_does_no_harm, "index out of bounds";
    closing_once_only: ClosesOnce, lifecycle::closing_twice_does_no_harm, "closed twice";
    staying_open: StaysOpen, lifecycle::nothing_is_delivered_after_close, "after it was closed";
    // Publish.
    losing_the_proof_of_one: LosesProof, publish::one_event_arrives, "proof headers of `one-0`";
    dropping_one: DropsOne, publish::a_thousand_events_arrive_once, "1 of 1000 events never arrived";
    sending_twice: SendsTwice, publish::a_thousand_events_arrive_once, "how often `many-123` arrived";
    mixing_up_addresses: OneAddress, publish::addresses_are_kept_apart, "never arrived where they should";
    rewriting_a_body: RewritesBody, publish::bodies_arrive_byte_for_byte, "the body of `";
    losing_an_attribute: LosesAttribute, publish::attributes_arrive, "attributes of `about`";
    losing_the_proof: LosesProof, publish::proofs_verify_again, "proof headers of";
    // Outcome.
    leaving_one_open: LeavesOpen, outcome::each_event_has_its_outcome, "all is well, but";
    repeating_positions: RepeatsPositions, outcome::positions_increase, "is followed by";
    being_too_strict: TooStrict, outcome::the_largest_body_is_taken, "a body of exactly";
    rejecting_a_batch_for_one: RejectsAll, outcome::a_larger_body_is_rejected_alone, "was rejected";
    charging_a_neighbour: ChargesNeighbour, outcome::a_missing_address_is_charged_alone, "was delivered";
    lying_about_addresses: ProbeLies, outcome::a_mended_address_is_taken, "a probe of a missing address";
    charging_one_of_many: ChargesNeighbour, outcome::mixed_failures_charge_the_right_events, "was delivered";
    // Order.
    deferring_one: Defers, order::order_holds_across_batches, "the order in which events";
    reordering: Reorders, order::order_holds_within_a_batch, "the order in which events";
    going_on_behind_a_cut: GoesOn, order::order_holds_under_faults, "the order in which events";
    going_on_behind_a_failure: GoesOn, order::a_batch_is_accepted_up_to_its_first_failure, "of its group before it";
    // Pressure.
    dropping_the_second: OneAtATime, pressure::concurrent_publishers_lose_nothing, "never arrived";
    hanging: Hangs, pressure::a_stalled_publish_meets_its_deadline, "long after its deadline";
    acking_when_stalled: AcksEarly, pressure::a_stalled_publish_meets_its_deadline, "nothing was answered, but";
    hoarding: Hoards, pressure::a_stalled_sink_holds_no_more_than_its_window, "the sink holds";
    being_poisoned: Poisoned, pressure::a_dropped_publish_does_no_harm, "could not be delivered";
    swallowing_confirmations: Swallows, pressure::a_dropped_publish_keeps_what_was_confirmed, "knows of none";
    // Fault.
    connecting_at_once: ConnectsAtOnce, fault::a_sink_opens_without_its_destination, "cannot be opened";
    lying_probes: ProbeLies, fault::a_cut_destination_is_waited_for, "but a probe says";
    never_reconnecting: NeverReconnects, fault::a_cut_destination_is_waited_for, "could not be delivered";
    staying_down: NeverReconnects, fault::a_restarted_destination_is_found_again, "could not be delivered";
    acking_early: AcksEarly, fault::what_was_not_answered_may_be_delivered, "nothing was confirmed, but";
    being_certain: Certain, fault::what_was_not_answered_may_be_delivered, "certainly not delivered";
    acking_before_a_cut: AcksEarly, fault::cuts_within_a_batch_lose_nothing, "never arrived";
    clinging_to_half: NeverReconnects, fault::half_closed_connections_are_left, "could not be delivered";
    being_impatient: Impatient, fault::delayed_connections_deliver, "could not be delivered";
    believing_anything: Believes, fault::corrupted_answers_are_not_believed, "no answer made sense, but";
    // Config; more of it in `sloppy`.
    being_picky: Picky, config::the_configuration_reads_and_opens, "is refused";
    // Hygiene.
    leaking_a_payload: LeaksPayload, hygiene::debug_shows_no_payload, "must stay hidden";
    leaking_a_secret: LeaksSecret, hygiene::debug_shows_no_secret, "must stay hidden";
    leaking_in_errors: LeaksInErrors, hygiene::errors_show_no_payload_and_no_secret, "must stay hidden";
}
