//! Brokers that run until somebody stops them, known by a file below cargo's target folder.

use std::{fs, path::PathBuf};

use rustix::process::Signal;

use crate::{Broker, Contact, Kind, Options, Result, broker::STOP, folders, process::Process};

/// Starts a broker that stays, secured, or finds the one that runs; says which.
///
/// # Errors
///
/// As [`Broker::start`].
pub fn up(kind: Kind) -> Result<Contact> {
    if let Some(contact) = status(kind)? {
        return Ok(contact);
    }
    // What is left of one that ended by itself: for RabbitMQ, its epmd.
    down(kind)?;
    let folder = folders::root()?.join(kind.name());
    folders::remove(&folder)?;
    let contact = Broker::detached(kind, &folder, &Options::secured())?;
    let lines = contact.variables().into_iter().map(|(name, value)| format!("{name}={value}\n"));
    folders::write(&file(kind)?, &lines.collect::<String>())?;
    Ok(contact)
}

/// The broker that runs, if one does.
///
/// # Errors
///
/// If its file makes no sense.
pub fn status(kind: Kind) -> Result<Option<Contact>> {
    let Some(contact) = recorded(kind)? else { return Ok(None) };
    let runs = contact.pid().is_some_and(|pid| find(pid, &contact).is_some());
    Ok(runs.then_some(contact))
}

/// Stops the broker and removes its data; says whether there was one.
///
/// # Errors
///
/// If it cannot be stopped.
pub fn down(kind: Kind) -> Result<bool> {
    let Some(contact) = recorded(kind)? else { return Ok(false) };
    let mut processes = contact.pids.iter().filter_map(|pid| find(*pid, &contact)).collect::<Vec<_>>();
    let any = !processes.is_empty();
    if let Some(main) = processes.first_mut() {
        main.end(Signal::TERM, STOP)?;
    }
    for process in &mut processes {
        process.kill()?;
    }
    // The file last: as long as there are rests, they are known.
    folders::remove(&folders::root()?.join(kind.name()))?;
    folders::remove_file(&file(kind)?)?;
    Ok(any)
}

/// What the file says, whether or not it still holds.
fn recorded(kind: Kind) -> Result<Option<Contact>> {
    let text = fs::read_to_string(file(kind)?).unwrap_or_default();
    let variables = text.lines().filter_map(|line| line.split_once('=')).collect::<Vec<_>>();
    let get =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    Contact::read(kind, get)
}

/// The process, if it still is the broker's.
fn find(pid: u32, contact: &Contact) -> Option<Process> {
    Process::find(pid, contact.folder()?)
}

fn file(kind: Kind) -> Result<PathBuf> {
    Ok(folders::root()?.join(format!("{kind}.env")))
}
