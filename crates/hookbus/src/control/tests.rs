//! The desk by itself and through the socket.

use std::{path::Path, sync::Mutex};

use async_trait::async_trait;
use hookbus_core::{
    Address, Router, VerifiedEvent,
    route::{Route, Target},
    sink::AddressKey,
};
use hookbus_journal::{Journal, Letter, LetterSettings, Room};
use hookbus_testkit::TestEvent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{by_journal::ByJournal, *};
use crate::dead_letters;

const KEY: AddressKey = AddressKey::required("topic");

fn letter(id: &str, event_type: &str, sink: &str) -> Letter {
    let event = TestEvent::new("fastpix").id(id).event_type(event_type).build();
    let address = Some(Address::from_parts([("topic", "old")], 1));
    Letter { address, ..Letter::new(event, sink.into(), "too-large", "scripted") }
}

/// Takes what it is given, but for events of this id.
#[derive(Debug, Default)]
struct Taking {
    refused: Option<&'static str>,
    taken: Mutex<Vec<String>>,
}

#[async_trait]
impl Redrive for Taking {
    fn shown(&self, letter: &Letter) -> VerifiedEvent {
        letter.event.clone()
    }

    async fn redrive(&self, letter: &Letter, _: bool) -> Result<(), NotRedriven> {
        let id = letter.event.id().as_str();
        if Some(id) == self.refused {
            return Err(NotRedriven::NoRoute);
        }
        self.taken.lock().unwrap().push(id.to_owned());
        Ok(())
    }
}

/// A folder with three letters, held open.
async fn folder(path: &Path) -> (hookbus_journal::DataFolder, DeadLetters) {
    let (data, letters) = dead_letters::open(path, LetterSettings::default()).unwrap();
    for (id, event_type, sink) in [("a", "x.one", "bus"), ("b", "x.two", "bus"), ("c", "y", "gone")] {
        letters.keep(letter(id, event_type, sink)).await.unwrap();
    }
    (data, letters)
}

/// The ids of events in the answer, and its end.
async fn answer(mut replies: mpsc::Receiver<Reply>) -> (Vec<String>, Reply) {
    let mut ids = Vec::new();
    loop {
        match replies.recv().await.expect("an answer has an end") {
            Reply::Letter(letter) => ids.push(letter.event_id),
            Reply::Failed { .. } => {}
            end => return (ids, end),
        }
    }
}

async fn on(desk: &Desk, command: OnLetters) -> (Vec<String>, Reply) {
    let (replies, answers) = mpsc::channel(1);
    let desk = desk.clone();
    tokio::spawn(async move { desk.answer(Command::DeadLetters(command), &replies).await });
    answer(answers).await
}

fn chosen(filter: Filter) -> Chosen {
    Chosen { filter, limit: None }
}

#[tokio::test]
async fn filters_choose_and_what_is_not_said_chooses_all() {
    let outer = tempfile::tempdir().unwrap();
    let (_data, letters) = folder(outer.path()).await;
    let desk = Desk::new(letters, Arc::new(Taking::default()));
    let list = async |filter| on(&desk, OnLetters::List(chosen(filter))).await.0.concat();
    let some = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    assert_eq!(list(none()).await, "abc");
    assert_eq!(list(Filter { ids: vec![2, 3], ..none() }).await, "bc");
    assert_eq!(list(Filter { sink: some("bus"), ..none() }).await, "ab");
    assert_eq!(list(Filter { event_type: some("X.*"), ..none() }).await, "ab");
    assert_eq!(list(Filter { source: some("other"), ..none() }).await, "");
    assert_eq!(list(Filter { reason: some("too-large"), ids: vec![1], ..none() }).await, "a");
    assert_eq!(list(Filter { before: Some(1000), ..none() }).await, "");
    assert_eq!(list(Filter { after: Some(1000), ..none() }).await, "abc");
    let limited = on(&desk, OnLetters::List(Chosen { limit: Some(2), ..Chosen::default() })).await;
    assert_eq!(limited.0.concat(), "ab");
    let wrong = on(&desk, OnLetters::List(chosen(Filter { event_type: some(""), ..none() }))).await;
    assert!(matches!(wrong.1, Reply::Error(_)), "{wrong:?}");
}

#[tokio::test]
async fn what_is_redriven_is_gone_and_what_is_not_stays() {
    let outer = tempfile::tempdir().unwrap();
    let (_data, letters) = folder(outer.path()).await;
    let taking = Arc::new(Taking { refused: Some("b"), ..Taking::default() });
    let desk = Desk::new(letters.clone(), Arc::<Taking>::clone(&taking));
    let redrive = OnLetters::Redrive { chosen: Chosen::default(), reroute: false };
    let (_, end) = on(&desk, redrive).await;
    assert!(matches!(end, Reply::Done { done: 2, failed: 1 }), "{end:?}");
    taking.taken.lock().unwrap().sort();
    assert_eq!(*taking.taken.lock().unwrap(), ["a", "c"]);
    assert_eq!(on(&desk, OnLetters::List(Chosen::default())).await.0, ["b"]);
    let (_, end) = on(&desk, OnLetters::Discard(Chosen::default())).await;
    assert!(matches!(end, Reply::Done { done: 1, failed: 0 }), "{end:?}");
    assert!(letters.is_empty());
}

#[tokio::test]
async fn the_journal_gets_the_old_address_or_todays() {
    let outer = tempfile::tempdir().unwrap();
    let (_data, letters) = folder(outer.path()).await;
    let to = vec![Target::new(0, vec![(KEY, "new".parse().unwrap())])];
    let route = Route { name: "all".into(), sources: vec![], types: vec!["*".parse().unwrap()], to };
    let sinks: Vec<Arc<str>> = vec!["bus".into()];
    let journal = Journal::in_memory(&sinks);
    let router = Arc::new(Router::new([Arc::from("fastpix")], &[route]).unwrap());
    let redrive = ByJournal { journal: journal.clone(), sinks, router };
    let desk = Desk::new(letters.clone(), Arc::new(redrive));
    let all = |reroute| OnLetters::Redrive { chosen: Chosen::default(), reroute };
    let (_, end) = on(&desk, all(false)).await;
    assert!(matches!(end, Reply::Done { done: 2, failed: 1 }), "the sink `gone` is gone: {end:?}");
    let (_, end) = on(&desk, all(true)).await;
    assert!(matches!(end, Reply::Done { done: 1, failed: 0 }), "{end:?}");
    assert!(letters.is_empty());
    let mut backlog = journal.backlog(0);
    let taken = backlog.take(Room { events: 10, bytes: 1 << 20 }).await.unwrap();
    let mut went: Vec<_> = taken
        .iter()
        .map(|entry| (entry.event.id().to_string(), entry.address.get("topic").unwrap().to_owned()))
        .collect();
    went.sort();
    let expected = [("a", "old"), ("b", "old"), ("c", "new")];
    assert_eq!(went, expected.map(|(id, topic)| (id.to_owned(), topic.to_owned())));
}

#[tokio::test]
async fn a_folder_that_is_held_is_asked_by_its_socket() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("data");
    let list = || Command::DeadLetters(OnLetters::List(Chosen::default()));
    let settings = LetterSettings::default();
    let (ids, end) = answer(ask(Place::folder(&path, settings), list()).await.unwrap()).await;
    assert!(
        ids.is_empty() && matches!(end, Reply::Done { .. }) && !path.exists(),
        "nothing is made by asking"
    );
    let (data, letters) = folder(&path).await;
    assert!(
        matches!(ask(Place::folder(&path, settings), list()).await, Err(NotAsked::InUse { .. })),
        "nobody listens"
    );
    std::fs::write(path.join(SOCKET), "left behind").unwrap();
    let control = Control::start(&path, Desk::new(letters, Arc::new(Taking::default()))).unwrap();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path.join(SOCKET)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(answer(ask(Place::folder(&path, settings), list()).await.unwrap()).await.0, ["a", "b", "c"]);
    let redrive =
        OnLetters::Redrive { chosen: chosen(Filter { ids: vec![1], ..Filter::default() }), reroute: false };
    let (_, end) =
        answer(ask(Place::folder(&path, settings), Command::DeadLetters(redrive)).await.unwrap()).await;
    assert!(matches!(end, Reply::Done { done: 1, failed: 0 }), "{end:?}");
    let long = vec![b'x'; 300 << 10];
    for request in [&b"{\"open\":1}\n"[..], b"no json\n", &long] {
        let mut stream = tokio::net::UnixStream::connect(path.join(SOCKET)).await.unwrap();
        // It may hang up before it has read all of it.
        let _ = stream.write_all(request).await;
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        assert!(text.contains("error") || request.len() > 1000, "{text}");
    }
    control.stop().await;
    assert!(!path.join(SOCKET).exists());
    drop(data);
    let (ids, _) = answer(ask(Place::folder(&path, settings), list()).await.unwrap()).await;
    assert_eq!(ids, ["b", "c"], "without a bridge the folder is read itself");
    let redrive = OnLetters::Redrive { chosen: Chosen::default(), reroute: false };
    // The asker before may still hold the folder.
    let end = loop {
        match ask(Place::folder(&path, settings), Command::DeadLetters(redrive.clone())).await {
            Ok(answers) => break answer(answers).await.1,
            Err(NotAsked::InUse { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(matches!(&end, Reply::Error(error) if error.contains("hookbus serve")), "{end:?}");
}
