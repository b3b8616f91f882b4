//! Where a broker is, and how to get in.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Access, Certificates, Door, Error, Kind, Result, error::Doing as _, kafka, rabbitmq, redis};

/// How long one step of a question may take: to connect, or to hear something.
pub(crate) const TIME: Duration = Duration::from_secs(5);

/// Where a broker is, and how to get in.
#[derive(Clone, Debug)]
pub struct Contact {
    pub(crate) kind: Kind,
    pub(crate) plain: Endpoint,
    pub(crate) others: BTreeMap<Access, Endpoint>,
    pub(crate) folder: Option<PathBuf>,
    /// Its processes, the broker itself first.
    pub(crate) pids: Vec<u32>,
    pub(crate) epmd: Option<SocketAddr>,
    pub(crate) doors: Vec<Door>,
    pub(crate) libs: Option<PathBuf>,
}

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL with user and password, or `host:port` for Kafka.
    pub url: String,
    /// The address to connect to.
    pub address: SocketAddr,
}

impl Contact {
    /// A broker with nothing but the plain way in.
    pub(crate) fn new(kind: Kind, plain: Endpoint) -> Self {
        Self {
            kind,
            plain,
            others: BTreeMap::new(),
            folder: None,
            pids: Vec::new(),
            epmd: None,
            doors: Vec::new(),
            libs: None,
        }
    }

    /// Which broker it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The plain way in: `redis://127.0.0.1:P`, `amqp://guest:guest@127.0.0.1:P/%2f`, or `127.0.0.1:P` for Kafka.
    pub fn url(&self) -> &str {
        &self.plain.url
    }

    /// The address of the plain way in.
    pub fn address(&self) -> SocketAddr {
        self.plain.address
    }

    /// A way in, if the broker has it.
    pub fn endpoint(&self, access: Access) -> Option<&Endpoint> {
        if access == Access::Plain { Some(&self.plain) } else { self.others.get(&access) }
    }

    /// The broker's process; `None` for a broker somebody named by a variable.
    pub fn pid(&self) -> Option<u32> {
        self.pids.first().copied()
    }

    /// The broker's data folder; `None` for a broker somebody named by a variable.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The certificates of a secured broker.
    pub fn certificates(&self) -> Option<Certificates> {
        let certificates = Certificates::below(self.folder()?);
        certificates.ca.is_file().then_some(certificates)
    }

    /// Kafka's doors; none for other brokers.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// The folder of Kafka's jars, for `java -cp 'LIBS/*'`.
    pub fn libs(&self) -> Option<&Path> {
        self.libs.as_deref()
    }

    /// Runs `rabbitmqctl` against this RabbitMQ, and gives what it wrote to stdout.
    ///
    /// # Errors
    ///
    /// If it is no RabbitMQ of ours, or `rabbitmqctl` fails.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String> {
        rabbitmq::ctl(self, arguments)
    }

    /// Sends one command to this Redis, as its user with all rights if it is secured, and gives the reply as text:
    /// a list has a line for each item, and nothing is `(nil)`.
    ///
    /// # Errors
    ///
    /// If it does not answer within seconds, or with an error.
    pub fn redis(&self, command: &[&str]) -> Result<String> {
        redis::command(self, command)
    }

    /// Whether it really answers; the error says what it does instead.
    pub(crate) fn answers(&self) -> Result<()> {
        match self.kind {
            Kind::Redis => redis::answers(self),
            Kind::RabbitMq => rabbitmq::answers(self),
            Kind::Kafka => kafka::answers(self),
        }?;
        // Listeners open one after the other, and the plain one is the first.
        let others = self.others.values().map(|endpoint| endpoint.address);
        for address in others.chain(self.doors.iter().map(|door| door.upstream)) {
            TcpStream::connect_timeout(&address, TIME).doing(|| format!("connect to {address}"))?;
        }
        Ok(())
    }
}

impl Endpoint {
    /// An endpoint at this address; `url` gets it as text.
    pub(crate) fn new(address: SocketAddr, url: impl FnOnce(SocketAddr) -> String) -> Self {
        Self { url: url(address), address }
    }

    /// Reads what somebody set: `scheme://user:password@host:port/path`, or `host:port,host:port`.
    pub(crate) fn read(url: &str) -> Result<Self> {
        let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = behind_scheme.split(['/', '?']).next().unwrap_or_default();
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        let first = hosts.split(',').next().unwrap_or_default();
        let address = first.to_socket_addrs().ok().and_then(|mut all| all.next());
        // Not the URL itself: it may hold a password.
        let address = address.ok_or_else(|| Error::Invalid(format!("`{first}` is no host:port")))?;
        Ok(Self { url: url.to_owned(), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_every_url() {
        for url in
            ["redis://u:p@127.0.0.1:81", "amqp://guest:g%40@127.0.0.1:81/%2f", "127.0.0.1:81,127.0.0.1:9"]
        {
            let endpoint = Endpoint::read(url).unwrap();
            assert_eq!((endpoint.address.to_string().as_str(), endpoint.url.as_str()), ("127.0.0.1:81", url));
        }
        let error = Endpoint::read("redis://me:secret@nowhere/0").unwrap_err().to_string();
        assert_eq!(error, "`nowhere` is no host:port");
    }
}
