//! What the driver's codes mean. This table is the only place that judges them.

use hookbus_core::{ErrorKind, RetryClass, SinkError};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// What kind of trouble a code is, and what to call it.
pub(crate) fn judge(code: Code) -> (ErrorKind, &'static str) {
    use ErrorKind::{Auth, InvalidEvent, Overloaded, Timeout, TooLarge, Unavailable, Unexpected, Unroutable};
    match code {
        // The brokers, or the way to them.
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::BrokerNotAvailable
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::NetworkException
        | Code::Resolve => (Unavailable, "no broker can be reached"),
        // A certificate may be mended at either end; no event is to blame.
        Code::SSL => (Unavailable, "TLS with the brokers fails"),
        // The driver asks again by itself until our deadline; what arrives here is what was left at that.
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::KafkaStorageError
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::StaleBrokerEpoch
        | Code::RebootstrapRequired
        | Code::WaitingForCoordinator => (Unavailable, "the partition has no leader that takes events"),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend | Code::ISRInsufficient => {
            (Unavailable, "fewer replicas are in sync than the topic asks for")
        }
        // The producer's own state is out of step with the brokers'; a new producer mends it, no event is to blame.
        Code::Fatal
        | Code::GaplessGuarantee
        | Code::Inconsistent
        | Code::Fenced
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping
        | Code::State => (Unavailable, "the producer has to begin anew"),
        // Ours: purged because of something else, which the caller knows.
        Code::PurgeQueue | Code::PurgeInflight => (Unavailable, "it was taken back from the driver"),
        Code::MessageTimedOut | Code::RequestTimedOut | Code::OperationTimedOut | Code::TimedOutQueue => {
            (Timeout, "no answer in time")
        }
        Code::QueueFull => (Overloaded, "the driver's queue is full"),
        Code::ThrottlingQuotaExceeded => (Overloaded, "the brokers throttle this client"),
        Code::CriticalSystemResource => (Overloaded, "the driver is out of a resource"),
        // A topic that does not exist, or has fewer partitions than it had.
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::UnknownTopicId => (Unroutable, "the topic does not exist"),
        Code::InvalidTopic => (Unroutable, "the name is no topic"),
        // Permissions on one topic; the login itself was taken.
        Code::TopicAuthorizationFailed => (Unroutable, "the user may not write to this topic"),
        // Permissions on the cluster (idempotent writes before Kafka 2.8): no topic works.
        Code::ClusterAuthorizationFailed => (Auth, "the user may not write to this cluster"),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled => (Auth, "the brokers refused the login"),
        // Of an event alone; a batch that is refused with these is another matter, see `Landing`.
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            (TooLarge, "it is larger than the topic takes")
        }
        Code::InvalidRecord => (InvalidEvent, "the topic takes no such record, such as one without a key"),
        Code::PolicyViolation => (InvalidEvent, "a policy of the brokers refuses it"),
        // The time of a record is this machine's: it is its clock that is wrong, or the brokers'.
        Code::InvalidTimestamp => (Unavailable, "the topic refuses the time of day: are the clocks right?"),
        Code::UnsupportedCompressionType | Code::UnsupportedForMessageFormat | Code::UnsupportedVersion => {
            (Unavailable, "the brokers do not understand this client's records")
        }
        _ => (Unexpected, "the brokers refused it"),
    }
}

/// An error of the driver as a sink's error, while doing `operation`.
pub(crate) fn classify(operation: &'static str, error: KafkaError) -> SinkError {
    match &error {
        // These may repeat the value of a property, and so a password.
        KafkaError::ClientConfig(_, _, name, _) => {
            let message = format!("librdkafka does not take the property `{name}`");
            SinkError::new(ErrorKind::Unavailable, operation, message)
        }
        KafkaError::ClientCreation(_) => {
            SinkError::new(ErrorKind::Unavailable, operation, "the client cannot be made").with_source(error)
        }
        _ => {
            let (kind, message) = error
                .rdkafka_error_code()
                .map_or_else(|| (ErrorKind::Unexpected, "the driver failed"), judge);
            SinkError::new(kind, operation, message).with_source(error)
        }
    }
}

/// A code as a sink's error, while doing `operation`.
pub(crate) fn coded(operation: &'static str, code: Code) -> SinkError {
    classify(operation, KafkaError::MessageProduction(code))
}

/// Whether a code refuses a whole batch although one event of it may be to blame.
pub(crate) fn refuses_batch(code: Code) -> bool {
    code == Code::InvalidDifferentRecord || judge(code).0.retry_class() == RetryClass::Never
}

/// The error as one that concerns the whole sink: for whoever it hit but is not to blame, and so must not be given up
/// for it.
pub(crate) fn for_bystanders(error: &SinkError) -> SinkError {
    if error.retry_class() == RetryClass::Sink {
        return error.clone();
    }
    let message = "taken back from the driver because of another event";
    SinkError::new(ErrorKind::Unavailable, "publish", message).with_source(error.clone())
}

#[cfg(test)]
mod tests {
    use ErrorKind::{Auth, InvalidEvent, Overloaded, Timeout, TooLarge, Unavailable, Unexpected, Unroutable};

    use super::*;

    #[test]
    fn every_code_has_its_meaning() {
        let table = [
            (
                Unavailable,
                &[
                    Code::BrokerTransportFailure,
                    Code::InvalidTimestamp,
                    Code::AllBrokersDown,
                    Code::Resolve,
                    Code::SSL,
                    Code::BrokerNotAvailable,
                    Code::NetworkException,
                    Code::LeaderNotAvailable,
                    Code::NotLeaderForPartition,
                    Code::NotEnoughReplicas,
                    Code::NotEnoughReplicasAfterAppend,
                    Code::ISRInsufficient,
                    Code::CoordinatorLoadInProgress,
                    Code::KafkaStorageError,
                    Code::Fatal,
                    Code::GaplessGuarantee,
                    Code::OutOfOrderSequenceNumber,
                    Code::UnknownProducerId,
                    Code::InvalidProducerEpoch,
                    Code::ProducerFenced,
                    Code::PurgeQueue,
                    Code::PurgeInflight,
                    Code::UnsupportedVersion,
                    Code::UnsupportedCompressionType,
                ][..],
            ),
            (
                Timeout,
                &[Code::MessageTimedOut, Code::RequestTimedOut, Code::OperationTimedOut, Code::TimedOutQueue],
            ),
            (Overloaded, &[Code::QueueFull, Code::ThrottlingQuotaExceeded, Code::CriticalSystemResource]),
            (
                Unroutable,
                &[
                    Code::UnknownTopic,
                    Code::UnknownTopicOrPartition,
                    Code::UnknownPartition,
                    Code::InvalidTopic,
                    Code::TopicAuthorizationFailed,
                ],
            ),
            (
                Auth,
                &[
                    Code::Authentication,
                    Code::SaslAuthenticationFailed,
                    Code::UnsupportedSASLMechanism,
                    Code::ClusterAuthorizationFailed,
                ],
            ),
            (TooLarge, &[Code::MessageSizeTooLarge, Code::InvalidMessageSize, Code::MessageBatchTooLarge]),
            (InvalidEvent, &[Code::InvalidRecord, Code::PolicyViolation]),
            (Unexpected, &[Code::Unknown, Code::InvalidConfig, Code::BadMessage]),
        ];
        for (kind, codes) in table {
            for code in codes {
                let error = coded("publish", *code);
                assert_eq!(error.kind(), kind, "{code:?}");
                assert!(std::error::Error::source(&error).is_some());
                assert_eq!(refuses_batch(*code), matches!(kind, TooLarge | InvalidEvent));
            }
        }
    }

    #[test]
    fn who_is_not_to_blame_is_not_given_up() {
        for code in
            [Code::MessageSizeTooLarge, Code::TopicAuthorizationFailed, Code::Unknown, Code::AllBrokersDown]
        {
            assert_eq!(for_bystanders(&coded("publish", code)).retry_class(), RetryClass::Sink, "{code:?}");
        }
    }

    #[test]
    fn a_property_that_is_refused_is_named_without_its_value() {
        let mut properties = rdkafka::ClientConfig::new();
        properties.set("sasl.passwor", "hunter2");
        let Err(error) = properties.create_native_config() else { panic!("there is no such property") };
        let error = classify("connect", error);
        assert!(
            error.to_string().contains("sasl.passwor") && !format!("{error} {error:?}").contains("hunter2"),
            "{error}"
        );
    }
}
