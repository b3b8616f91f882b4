//! What can be wrong with a sink. Each flaw is caught by a case.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Says delivered as soon as it has sent.
    AcksEarly,
    /// Says delivered of one event that it does not send.
    DropsOne,
    /// Sends one event a second time.
    SendsTwice,
    /// Sends a whole batch to the address of its first event.
    OneAddress,
    /// Sends a batch from its end.
    Reorders,
    /// After a failure it goes on with the events behind it, on a new connection.
    GoesOn,
    /// Waits for answers beyond its deadline.
    Hangs,
    /// Takes up no new connection when one has failed.
    NeverReconnects,
    /// Says "certainly not delivered" of what it has sent.
    Certain,
    /// Says that an answer it does not know is a confirmation.
    Believes,
    /// Charges an answer to the event behind it.
    ChargesNeighbour,
    /// Rejects a whole batch for one event.
    RejectsAll,
    /// Fills the report when all answers are there.
    Swallows,
    /// Is not free again after a publish was dropped.
    Poisoned,
    /// Keeps events that failed.
    Hoards,
    /// Shows its credential.
    LeaksSecret,
    /// Shows the events it sends.
    LeaksPayload,
    /// Puts the event into its errors.
    LeaksInErrors,
    /// Delivers after it was closed.
    StaysOpen,
    /// Says that all is well without looking.
    ProbeLies,
    /// Fails to open where the destination is away.
    ConnectsAtOnce,
    /// Tells the same position twice.
    RepeatsPositions,
    /// Leaves out the proof headers.
    LosesProof,
    /// Leaves out the subject.
    LosesAttribute,
    /// Writes the body's JSON anew.
    RewritesBody,
    /// Puts one event behind a later one of its group.
    Defers,
    /// Says nothing of a batch's last event.
    LeavesOpen,
    /// Drops what comes while another publish is under way.
    OneAtATime,
    /// Refuses what the destination would just take.
    TooStrict,
    /// Gives up long before its deadline.
    Impatient,
    /// Sends an event to find out how the destination is.
    ProbeSends,
    /// Fails when it is closed again.
    ClosesOnce,
    /// Refuses a configuration that is right.
    Picky,
}

/// Chooses a flaw by a type, as fixtures are types.
pub(crate) trait Flawed: Send + Sync + 'static {
    const FLAW: Flaw;
}
