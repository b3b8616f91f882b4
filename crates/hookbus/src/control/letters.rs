//! Commands on dead letters.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hookbus_core::{EventTime, VerifiedEvent, route::TypePattern};
use hookbus_journal::{DeadLetters, Letter, Summary};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{task::JoinSet, time::timeout};

use super::{Desk, NotRedriven, Redrive, Replies, Reply, Stopped, journal::TELL};

/// Letters that are looked at at once.
const PAGE: usize = 256;
/// Letters that are on their way at once: they share fsyncs.
const AT_ONCE: usize = 16;
/// How long a removal may take.
const REMOVE: Duration = Duration::from_secs(30);

/// What to do with dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnLetters {
    /// Say which there are.
    List(Chosen),
    /// Say all about one, its event included.
    Show { id: u64 },
    /// Send them on their way again.
    Redrive { chosen: Chosen, reroute: bool },
    /// Remove them for good.
    Discard(Chosen),
}

/// Which letters, and how many at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Chosen {
    pub(crate) filter: Filter,
    pub(crate) limit: Option<u64>,
}

/// Which letters; what is not said chooses all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Filter {
    pub(crate) ids: Vec<u64>,
    pub(crate) source: Option<String>,
    pub(crate) sink: Option<String>,
    /// A pattern, as routes have them.
    pub(crate) event_type: Option<String>,
    pub(crate) reason: Option<String>,
    /// Given up before this: milliseconds since 1970.
    pub(crate) before: Option<u64>,
    /// Given up at this or after it: milliseconds since 1970.
    pub(crate) after: Option<u64>,
}

impl Filter {
    fn compile(self) -> Result<impl Fn(&Summary) -> bool, Stopped> {
        let pattern = self.event_type.as_deref().map(str::parse::<TypePattern>).transpose();
        let pattern = pattern.map_err(|wrong| Stopped(format!("the type: {wrong}")))?;
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        Ok(move |letter: &Summary| {
            let given_up = letter.given_up.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
            (self.ids.is_empty() || self.ids.contains(&letter.id))
                && same(&self.source, &letter.source)
                && same(&self.sink, &letter.sink)
                && same(&self.reason, &letter.reason)
                && pattern.as_ref().is_none_or(|pattern| pattern.takes(&letter.event_type))
                && self.before.is_none_or(|before| given_up < u128::from(before))
                && self.after.is_none_or(|after| given_up >= u128::from(after))
        })
    }
}

/// A dead letter as it is shown. Its event, and with it the payload, only where it was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LetterLine {
    pub(crate) id: u64,
    /// When it was given up.
    pub(crate) time: String,
    pub(crate) sink: String,
    pub(crate) address: Option<BTreeMap<String, String>>,
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempts: u32,
    pub(crate) source: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) event_id: String,
    pub(crate) subject: Option<String>,
    pub(crate) received: String,
    pub(crate) body_bytes: usize,
    /// The event as a structured CloudEvent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) event: Option<Box<RawValue>>,
}

impl LetterLine {
    fn new(letter: &Summary) -> Self {
        let time = |time: SystemTime| EventTime::from(time).to_string();
        let parts = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            id: letter.id,
            time: time(letter.given_up),
            sink: letter.sink.to_string(),
            address: letter.address.as_ref().map(|address| address.iter().map(parts).collect()),
            reason: letter.reason.to_string(),
            error: letter.error.to_string(),
            attempts: letter.attempts,
            source: letter.source.to_string(),
            event_type: letter.event_type.to_string(),
            event_id: letter.event_id.to_string(),
            subject: letter.subject.as_deref().map(str::to_owned),
            received: time(letter.received),
            body_bytes: letter.body_bytes,
            event: None,
        }
    }

    fn whole(id: u64, letter: &Letter, shown: &VerifiedEvent) -> Result<Self, Stopped> {
        let mut event = Vec::new();
        shown.write_structured(&mut event);
        let event = RawValue::from_string(String::from_utf8(event)?.trim_end().to_owned())?;
        Ok(Self { event: Some(event), ..Self::new(&Summary::new(id, letter)) })
    }
}

impl Desk {
    /// Returns how many letters it was about, and how many of them could not be dealt with.
    pub(super) async fn on_letters(
        &self,
        command: OnLetters,
        replies: &Replies,
    ) -> Result<(u64, u64), Stopped> {
        match command {
            OnLetters::List(chosen) => self.each(chosen, replies, Doing::List).await,
            OnLetters::Discard(chosen) => self.each(chosen, replies, Doing::Discard).await,
            OnLetters::Redrive { chosen, reroute } => {
                self.redrive.ready()?;
                self.each(chosen, replies, Doing::Redrive { reroute }).await
            }
            OnLetters::Show { id } => {
                let letter = self.letters.get(id).await?;
                let letter = letter.ok_or_else(|| Stopped(format!("there is no dead letter {id}")))?;
                send(
                    replies,
                    Reply::Letter(Box::new(LetterLine::whole(id, &letter, &self.redrive.shown(&letter))?)),
                )
                .await?;
                Ok((1, 0))
            }
        }
    }

    async fn each(&self, chosen: Chosen, replies: &Replies, doing: Doing) -> Result<(u64, u64), Stopped> {
        let Chosen { filter, limit } = chosen;
        let is_chosen = filter.compile()?;
        // Letters that come back while this goes on are not taken again.
        let newest = self.letters.newest().unwrap_or(0);
        let (mut left, mut after) = (limit.unwrap_or(u64::MAX), None);
        let (mut done, mut failed, mut told) = (0, 0, Instant::now());
        while left > 0 {
            let listing = self.letters.list(after, PAGE).await?;
            let Some(last) = listing.last.filter(|_| after.is_none_or(|after| after < newest)) else { break };
            after = Some(last);
            for id in listing.unreadable {
                failed += 1;
                let error = "it was damaged since it was written".to_owned();
                send(replies, Reply::Failed { id, error }).await?;
            }
            let mut letters: Vec<_> =
                listing.letters.into_iter().filter(|letter| letter.id <= newest).collect();
            letters.retain(|letter| is_chosen(letter));
            letters.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= letters.len() as u64;
            for some in letters.chunks(AT_ONCE) {
                let refused = self.some(some, replies, doing).await?;
                failed += refused;
                done += some.len() as u64 - refused;
                still_working(replies, &mut told).await?;
            }
            still_working(replies, &mut told).await?;
        }
        Ok((done, failed))
    }

    /// Deals with some letters and returns how many of them could not be.
    async fn some(&self, letters: &[Summary], replies: &Replies, doing: Doing) -> Result<u64, Stopped> {
        let mut failed = 0;
        match doing {
            Doing::List => {
                for letter in letters {
                    send(replies, Reply::Letter(Box::new(LetterLine::new(letter)))).await?;
                }
            }
            Doing::Discard => {
                let ids: Vec<u64> = letters.iter().map(|letter| letter.id).collect();
                remove(&self.letters, &ids).await?;
                if replies.is_closed() {
                    return Err(gone());
                }
            }
            Doing::Redrive { reroute } => {
                let mut under_way = JoinSet::new();
                for letter in letters {
                    let (letters, redrive, id) = (self.letters.clone(), Arc::clone(&self.redrive), letter.id);
                    under_way.spawn(async move { (id, redrive_one(&letters, &*redrive, id, reroute).await) });
                }
                while let Some(ended) = under_way.join_next().await {
                    let (id, result) = ended?;
                    if let Err(error) = result {
                        failed += 1;
                        send(replies, Reply::Failed { id, error: error.0 }).await?;
                    }
                }
                if replies.is_closed() {
                    return Err(gone());
                }
            }
        }
        Ok(failed)
    }
}

#[derive(Clone, Copy)]
enum Doing {
    List,
    Discard,
    Redrive { reroute: bool },
}

/// First on its way, then removed: a crash between the two makes a duplicate, never a loss.
async fn redrive_one(
    letters: &DeadLetters,
    redrive: &dyn Redrive,
    id: u64,
    reroute: bool,
) -> Result<(), Stopped> {
    // Somebody else may have dealt with it meanwhile.
    let Some(letter) = letters.get(id).await? else { return Ok(()) };
    redrive.redrive(&letter, reroute).await.map_err(|error: NotRedriven| Stopped(error.to_string()))?;
    remove(letters, &[id]).await
}

async fn remove(letters: &DeadLetters, ids: &[u64]) -> Result<(), Stopped> {
    let late = |_| Stopped("the removal was not on disk in time".into());
    timeout(REMOVE, letters.remove(ids)).await.map_err(late)??;
    Ok(())
}

/// Tells now and then that it goes on: what succeeds has no line, and whoever asked does not wait for ever.
async fn still_working(replies: &Replies, told: &mut Instant) -> Result<(), Stopped> {
    if told.elapsed() >= TELL {
        *told = Instant::now();
        send(replies, Reply::Working).await?;
    }
    Ok(())
}

async fn send(replies: &Replies, reply: Reply) -> Result<(), Stopped> {
    replies.send(reply).await.map_err(|_| gone())
}

fn gone() -> Stopped {
    Stopped("nobody listens any more".into())
}
