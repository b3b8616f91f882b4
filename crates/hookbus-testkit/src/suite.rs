//! The list of all cases, and how one is run.

use std::{future::Future, io::Write as _};

use hookbus_core::SinkPlugin;

use crate::{Fixture, Skip};

/// Writes one test per conformance case for a [`Fixture`], in a module `conformance`, or in one of the name given:
/// `sink_conformance!(kafka: KafkaFixture)`.
#[macro_export]
macro_rules! sink_conformance {
    ($fixture:ty) => {
        $crate::sink_conformance!(conformance: $fixture);
    };
    ($module:ident: $fixture:ty) => {
        mod $module {
            #[allow(unused_imports, reason = "the fixture's path may need no import")]
            use super::*;

            $crate::sink_conformance! { @tests $fixture;
                lifecycle: a_probe_sends_nothing, an_empty_batch_does_no_harm, closing_twice_does_no_harm,
                    nothing_is_delivered_after_close;
                publish: one_event_arrives, a_thousand_events_arrive_once, addresses_are_kept_apart,
                    bodies_arrive_byte_for_byte, attributes_arrive, proofs_verify_again;
                outcome: each_event_has_its_outcome, positions_increase, the_largest_body_is_taken,
                    a_larger_body_is_rejected_alone, a_missing_address_is_charged_alone,
                    a_mended_address_is_taken, mixed_failures_charge_the_right_events;
                order: order_holds_across_batches, order_holds_within_a_batch, order_holds_under_faults,
                    a_batch_is_accepted_up_to_its_first_failure;
                pressure: concurrent_publishers_lose_nothing, a_stalled_publish_meets_its_deadline,
                    a_stalled_sink_holds_no_more_than_its_window, a_dropped_publish_does_no_harm,
                    a_dropped_publish_keeps_what_was_confirmed;
                fault: a_sink_opens_without_its_destination, a_cut_destination_is_waited_for,
                    a_restarted_destination_is_found_again, what_was_not_answered_may_be_delivered,
                    cuts_within_a_batch_lose_nothing, half_closed_connections_are_left, delayed_connections_deliver,
                    corrupted_answers_are_not_believed;
                config: the_configuration_reads_and_opens, an_unknown_key_is_told_its_place,
                    every_key_is_documented;
                hygiene: debug_shows_no_payload, debug_shows_no_secret, errors_show_no_payload_and_no_secret;
            }
        }
    };
    (@tests $fixture:ty; $($group:ident: $($case:ident),+;)+) => {
        $($(
            #[test]
            fn $case() {
                $crate::suite::run::<$fixture, _>(stringify!($case), $crate::cases::$group::$case::<$fixture>());
            }
        )+)+
    };
}

/// Runs a case on a runtime of its own. One that cannot be tested here says so on stderr, past libtest, which would
/// keep it to itself: a proof that was not given must not look like one.
///
/// # Panics
/// Where the sink does not keep to its contract.
pub fn run<F: Fixture, A: Future<Output = Result<(), Skip>>>(name: &str, case: A) {
    let skipped = match F::exempt(name) {
        Some(reason) => Err(Skip::new(reason)),
        None => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime starts");
            let done = runtime.block_on(case);
            // Not dropped: a blocking call that a case left behind on purpose would be waited for.
            runtime.shutdown_background();
            done
        }
    };
    if let Err(reason) = skipped {
        let sink = <F::Plugin as SinkPlugin>::TYPE;
        let _ = writeln!(std::io::stderr(), "skipped: {sink}: {name}: {reason}");
    }
}

#[cfg(test)]
mod tests {
    /// Each file of cases, by its module.
    const FILES: [(&str, &str); 8] = [
        ("lifecycle", include_str!("cases/lifecycle.rs")),
        ("publish", include_str!("cases/publish.rs")),
        ("outcome", include_str!("cases/outcome.rs")),
        ("order", include_str!("cases/order.rs")),
        ("pressure", include_str!("cases/pressure.rs")),
        ("fault", include_str!("cases/fault.rs")),
        ("config", include_str!("cases/config.rs")),
        ("hygiene", include_str!("cases/hygiene.rs")),
    ];

    #[test]
    fn every_case_is_in_the_list() {
        let list = include_str!("suite.rs");
        for (group, file) in FILES {
            let line = list.split_once(&format!("{group}: ")).expect("the group is listed").1;
            let listed: Vec<_> =
                line.split(';').next().unwrap_or_default().split(',').map(str::trim).collect();
            let written: Vec<_> = file
                .split("pub async fn ")
                .skip(1)
                .filter_map(|rest| rest.split_once('<').map(|(name, _)| name))
                .collect();
            assert_eq!(listed, written, "{group}");
        }
    }

    #[test]
    fn every_case_is_explained() {
        let page = include_str!("../../../docs/custom-sink.md");
        for (_, file) in FILES {
            for case in file.split("pub async fn ").skip(1).filter_map(|rest| rest.split_once('<')) {
                assert!(page.contains(&format!("| `{}` |", case.0)), "{}", case.0);
            }
        }
    }
}
