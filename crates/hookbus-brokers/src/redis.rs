//! Redis: its configuration, one command, readiness.

use std::{
    io::{BufReader, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use crate::{
    Access, Certificates, Contact, Error, Kind, Options, PASSWORD, Result, USER,
    broker::Plan,
    contact::{Endpoint, TIME},
    error::Doing as _,
    folders::write,
    options::setting,
    ports,
    process::Launch,
    resp,
};

pub(crate) fn plan(folder: &Path, options: &Options) -> Result<Plan> {
    let address = ports::free()?;
    let mut contact = Contact::new(Kind::Redis, Endpoint::new(address, |at| format!("redis://{at}")));
    let mut defaults = vec![
        setting("bind", address.ip()),
        setting("port", address.port()),
        setting("save", "\"\""),
        // It would wait five seconds for more replicas.
        setting("repl-diskless-sync-delay", 0),
    ];
    if let Some(first) = options.replica_of {
        defaults.push(setting("replicaof", format!("{} {}", first.ip(), first.port())));
    }
    if options.is_secured() {
        let tls = ports::free()?;
        let certificates = Certificates::make(folder)?;
        defaults.extend([
            setting("user", "default on nopass ~* &* +@all"),
            setting("user", format!("{USER} on >{PASSWORD} ~* &* +@all")),
            setting("tls-port", tls.port()),
            setting("tls-cert-file", certificates.cert.display()),
            setting("tls-key-file", certificates.key.display()),
            setting("tls-ca-cert-file", certificates.ca.display()),
            setting("tls-auth-clients", "optional"),
        ]);
        contact.others.extend([
            (Access::Password, Endpoint::new(address, |at| format!("redis://{USER}:{PASSWORD}@{at}"))),
            (Access::Tls, Endpoint::new(tls, |at| format!("rediss://{at}"))),
            (Access::PasswordTls, Endpoint::new(tls, |at| format!("rediss://{USER}:{PASSWORD}@{at}"))),
        ]);
    }
    let file = folder.join("redis.conf");
    write(&file, &options.lines(&defaults, " "))?;
    let main = Launch {
        program: "redis-server".into(),
        arguments: vec![file.display().to_string()],
        environment: Vec::new(),
        folder: folder.to_owned(),
        log: folder.join("log"),
    };
    Ok(Plan { contact, preparation: None, companion: None, main, patience: Duration::from_secs(30) })
}

pub(crate) fn answers(contact: &Contact) -> Result<()> {
    match command(contact, &["PING"]) {
        // A test may have taken our user's rights, or the user itself.
        Err(Error::Refused(why))
            if ["NOAUTH", "NOPERM", "WRONGPASS"].iter().any(|no| why.starts_with(no)) =>
        {
            Ok(())
        }
        answer => answer.map(drop),
    }
}

pub(crate) fn command(contact: &Contact, command: &[&str]) -> Result<String> {
    let doing = || format!("send `{}` to {}", command.first().unwrap_or(&""), contact.address());
    let mut stream = TcpStream::connect_timeout(&contact.address(), TIME).doing(doing)?;
    stream.set_read_timeout(Some(TIME)).doing(doing)?;
    stream.set_write_timeout(Some(TIME)).doing(doing)?;
    let mut replies = BufReader::new(stream.try_clone().doing(doing)?);
    let mut ask = |words: &[&str]| {
        stream.write_all(&resp::encode(words)).doing(doing)?;
        resp::read(&mut replies).doing(doing)?.map_err(Error::Refused)
    };
    if contact.endpoint(Access::Password).is_some() {
        ask(&["AUTH", USER, PASSWORD])?;
    }
    ask(command)
}
