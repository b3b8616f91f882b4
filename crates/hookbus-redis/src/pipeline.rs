//! What a batch is sent as, and which answer is about which event.

use std::collections::HashMap;

use hookbus_core::{Batch, ErrorKind, Outcome, Position, Report, SinkError};
use redis::{Pipeline, RedisError, Value};

use crate::{
    classify::refused,
    message::{Trim, xadd},
};

/// The driver tells the answers of a pipeline all at once, when the last one is there: what a cut connection leaves
/// unknown is up to a pipeline more than it has to be. So a batch is sent as this many of them.
const PARTS: usize = 8;
/// Events in one pipeline, about, at most: more are hardly faster.
const EVENTS: usize = 128;

/// Some events of a batch, sent together.
pub(crate) struct Part {
    pub(crate) commands: Pipeline,
    /// What each answer is about, in order.
    answers: Vec<Answer>,
    /// All events in it.
    events: Vec<usize>,
}

enum Answer {
    /// The entry of this event.
    Entry(usize),
    /// The beginning of a transaction.
    Multi,
    /// This event was queued.
    Queued(usize),
    /// The entries of these events of one group.
    Group(Vec<usize>),
}

/// The events of a batch as pipelines, in the order they have to be sent in. `left_out` are not in any.
///
/// Several events of one group stand in one transaction each: the server takes a prefix of the group, because it
/// takes all of it or nothing. A transaction per group and not per batch, because a command that is refused while it
/// is queued makes the server throw all of its transaction away.
pub(crate) fn parts(batch: &Batch, trim: &Trim, left_out: &[usize]) -> Vec<Part> {
    split(batch, trim, left_out, batch.len().div_ceil(PARTS).min(EVENTS))
}

/// The same with about so many events in each.
fn split(batch: &Batch, trim: &Trim, left_out: &[usize], most: usize) -> Vec<Part> {
    let goes = |at: &usize| left_out.binary_search(at).is_err();
    let mut groups: HashMap<u64, Vec<usize>> = HashMap::with_capacity(batch.len());
    for at in (0..batch.len()).filter(goes) {
        if let Some(group) = batch[at].group() {
            groups.entry(group).or_default().push(at);
        }
    }
    let mut parts: Vec<Part> = Vec::with_capacity(batch.len() / most.max(1) + 1);
    for at in (0..batch.len()).filter(goes) {
        // A group goes where its first event stands; the others of it are gone by then.
        let Some(events) = batch[at].group().map_or(Some(vec![at]), |group| groups.remove(&group)) else {
            continue;
        };
        if parts.last().is_none_or(|part| part.events.len() >= most) {
            parts.push(Part::new(most));
        }
        if let Some(part) = parts.last_mut() {
            part.add(batch, trim, events);
        }
    }
    parts
}

impl Part {
    fn new(most: usize) -> Self {
        let mut commands = Pipeline::with_capacity(most);
        commands.ignore_errors();
        Self { commands, answers: Vec::with_capacity(most), events: Vec::with_capacity(most) }
    }

    fn add(&mut self, batch: &Batch, trim: &Trim, events: Vec<usize>) {
        self.events.extend(&events);
        if let [at] = events[..] {
            self.commands.add_command(xadd(&batch[at], trim));
            self.answers.push(Answer::Entry(at));
            return;
        }
        self.commands.cmd("MULTI");
        self.answers.push(Answer::Multi);
        for at in &events {
            self.commands.add_command(xadd(&batch[*at], trim));
            self.answers.push(Answer::Queued(*at));
        }
        self.commands.cmd("EXEC");
        self.answers.push(Answer::Group(events));
    }

    /// What the server answered: the outcome of each event in it.
    pub(crate) fn read(&self, values: Vec<Value>) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(self.events.len());
        // Whether the server knows of no transaction (it may be forbidden), and why a command was not even queued.
        let (mut alone, mut not_queued) = (false, None::<RedisError>);
        for (answer, value) in self.answers.iter().zip(values) {
            match (answer, value) {
                (Answer::Entry(at), value) => outcomes.push((*at, entry(value))),
                (Answer::Multi, value) => alone = matches!(value, Value::ServerError(_)),
                // Each was executed by itself, for better or worse.
                (Answer::Queued(at), value) if alone => outcomes.push((*at, entry(value))),
                (Answer::Queued(_), Value::ServerError(error)) => {
                    not_queued.get_or_insert(error.into());
                }
                (Answer::Queued(_), _) => {}
                (Answer::Group(_), _) if alone => alone = false,
                (Answer::Group(events), Value::Array(entries)) => {
                    outcomes.extend(events.iter().copied().zip(entries.into_iter().map(entry)));
                }
                (Answer::Group(events), Value::ServerError(aborted)) => {
                    // Nothing of it was executed; the reason is with the command that was not queued.
                    let refusal = refused(not_queued.take().unwrap_or_else(|| aborted.into()));
                    outcomes.extend(events.iter().map(|at| (*at, refusal.clone())));
                }
                (Answer::Group(events), _) => outcomes.extend(events.iter().map(|at| (*at, unknown()))),
            }
        }
        outcomes
    }

    /// Says the same of every event in it.
    pub(crate) fn set_all(&self, report: &Report, outcome: &Outcome) {
        self.events.iter().for_each(|at| report.set(*at, outcome.clone()));
    }
}

/// What one answer to `XADD` says.
fn entry(value: Value) -> Outcome {
    match value {
        Value::BulkString(id) => match String::from_utf8(id) {
            Ok(id) => Outcome::delivered(Position::new(id)),
            Err(_) => unknown(),
        },
        Value::ServerError(error) => refused(error.into()),
        _ => unknown(),
    }
}

fn unknown() -> Outcome {
    Outcome::maybe_delivered(SinkError::new(
        ErrorKind::Unexpected,
        "publish",
        "an answer that is no entry id",
    ))
}

#[cfg(test)]
mod tests {
    use hookbus_core::{Envelope, SinkPlugin};
    use hookbus_testkit::TestEvent;

    use super::*;

    /// A batch whose events belong to these groups.
    fn batch(groups: &[Option<u64>]) -> Batch {
        let envelope = |group: &Option<u64>| {
            let envelope = Envelope::new(
                TestEvent::new("fastpix").build(),
                hookbus_testkit::address::<crate::Redis>(&[("stream", "s")]),
            );
            group.map_or(envelope.clone(), |group| envelope.in_group(group))
        };
        Batch::new(groups.iter().map(envelope).collect::<Vec<_>>())
    }

    fn words(part: &Part) -> Vec<String> {
        let name = |command: &redis::Cmd| match command.args_iter().next() {
            Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
            _ => String::new(),
        };
        part.commands.cmd_iter().map(name).collect()
    }

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
    }

    fn id(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn said(outcomes: Vec<(usize, Outcome)>) -> Vec<(usize, String)> {
        let word = |outcome: Outcome| match outcome {
            Outcome::Delivered { position, .. } => position.unwrap().to_string(),
            Outcome::Retry { error, maybe_delivered, .. } => {
                format!("{}{}", error.kind().as_str(), if maybe_delivered { "?" } else { "" })
            }
            _ => "rejected".into(),
        };
        let mut said: Vec<_> = outcomes.into_iter().map(|(at, outcome)| (at, word(outcome))).collect();
        said.sort();
        said
    }

    #[test]
    fn a_group_is_one_transaction_where_its_first_event_stands() {
        assert_eq!(crate::Redis::TYPE, "redis");
        let batch = batch(&[None, Some(1), Some(2), Some(1), None]);
        let parts = split(&batch, &Trim::Never, &[], EVENTS);
        assert_eq!(words(&parts[0]), ["XADD", "MULTI", "XADD", "XADD", "EXEC", "XADD", "XADD"]);
        let queued = || Value::SimpleString("QUEUED".into());
        let answers = vec![
            id("1-0"),
            Value::Okay,
            queued(),
            queued(),
            Value::Array(vec![id("2-0"), id("3-0")]),
            error("WRONGTYPE no"),
            id("4-0"),
        ];
        let expected = [(0, "1-0"), (1, "2-0"), (2, "unroutable"), (3, "3-0"), (4, "4-0")];
        assert_eq!(said(parts[0].read(answers)), expected.map(|(at, word)| (at, word.to_owned())));
    }

    #[test]
    fn a_transaction_that_was_thrown_away_says_why() {
        let batch = batch(&[Some(1), Some(1), Some(2)]);
        let parts = split(&batch, &Trim::Never, &[], EVENTS);
        let answers =
            vec![Value::Okay, error("OOM full"), error("OOM full"), error("EXECABORT discarded"), id("1-0")];
        let expected = [(0, "overloaded"), (1, "overloaded"), (2, "1-0")];
        assert_eq!(said(parts[0].read(answers)), expected.map(|(at, word)| (at, word.to_owned())));
    }

    #[test]
    fn commands_that_were_executed_without_their_transaction_count() {
        let batch = batch(&[Some(1), Some(1)]);
        let parts = split(&batch, &Trim::Never, &[], EVENTS);
        let no = || error("NOPERM no permissions to run the 'multi' command");
        let answers = vec![no(), id("1-0"), error("WRONGTYPE no"), error("ERR EXEC without MULTI")];
        let expected = [(0, "1-0"), (1, "unroutable")];
        assert_eq!(said(parts[0].read(answers)), expected.map(|(at, word)| (at, word.to_owned())));
    }

    #[test]
    fn what_is_left_out_is_not_sent_and_long_batches_are_split() {
        let sizes = |count: usize, left_out: &[usize]| {
            let parts = parts(&batch(&vec![None; count]), &Trim::Never, left_out);
            parts.iter().map(|part| part.events.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1100, &[0, 1099]), [128, 128, 128, 128, 128, 128, 128, 128, 74]);
        assert_eq!(sizes(24, &[]), [3; 8]);
        assert_eq!(sizes(2, &[]), [1, 1]);
        assert!(sizes(1, &[0]).is_empty());
    }

    #[test]
    fn an_answer_that_is_no_id_is_no_delivery() {
        let batch = batch(&[None]);
        assert_eq!(
            said(parts(&batch, &Trim::Never, &[])[0].read(vec![Value::Nil])),
            [(0, "unexpected?".into())]
        );
    }
}
