//! A contact as environment variables, and back: between `xtask` and tests, and for examples in other languages.

use std::net::SocketAddr;

use crate::{Access, Contact, Door, Error, Kind, Result, contact::Endpoint};

/// The name of a variable.
fn name(kind: Kind, what: &str) -> String {
    format!("HOOKBUS_TEST_{}_{what}", kind.name().to_ascii_uppercase())
}

/// The name of the variable for a way in.
fn access_name(kind: Kind, access: Access) -> String {
    let noun = if kind == Kind::Kafka { "BROKERS" } else { "URL" };
    match access {
        Access::Plain => name(kind, noun),
        other => name(kind, &format!("{}_{noun}", other.name())),
    }
}

impl Contact {
    /// All there is to know about it, as environment variables.
    pub fn variables(&self) -> Vec<(String, String)> {
        let endpoints = Access::ALL
            .into_iter()
            .filter_map(|access| Some((access_name(self.kind, access), self.endpoint(access)?.url.clone())));
        let joined = |items: Vec<String>| (!items.is_empty()).then(|| items.join(","));
        let path = |path: &std::path::Path| path.display().to_string();
        let others = [
            ("FOLDER", self.folder().map(path)),
            ("PIDS", joined(self.pids.iter().map(u32::to_string).collect())),
            ("EPMD", self.epmd.map(|address| address.to_string())),
            ("DOORS", joined(self.doors.iter().map(|door| door.to_text()).collect())),
            ("LIBS", self.libs().map(path)),
        ];
        let others = others.into_iter().filter_map(|(what, value)| Some((name(self.kind, what), value?)));
        endpoints.chain(others).collect()
    }

    /// Reads it back; `None` where the variable of the plain way in is not there.
    pub(crate) fn read(kind: Kind, get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let endpoint = |access| {
            let name = access_name(kind, access);
            let of = |url: String| Endpoint::read(&url).map_err(|error| invalid(&name, &error.to_string()));
            get(&name).map(of).transpose()
        };
        let Some(plain) = endpoint(Access::Plain)? else { return Ok(None) };
        let mut contact = Self::new(kind, plain);
        for access in Access::ALL.into_iter().skip(1) {
            contact.others.extend(endpoint(access)?.map(|endpoint| (access, endpoint)));
        }
        let list = |what: &str| get(&name(kind, what)).unwrap_or_default();
        let items = |text: &str| text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect();
        let items = |what: &str| -> Vec<String> { items(&list(what)) };
        contact.folder = get(&name(kind, "FOLDER")).map(Into::into);
        contact.pids = items("PIDS").iter().map(|pid| parsed(kind, "PIDS", pid)).collect::<Result<_>>()?;
        contact.epmd = get(&name(kind, "EPMD")).map(|text| parsed(kind, "EPMD", &text)).transpose()?;
        contact.doors = items("DOORS").iter().map(|door| Door::read(kind, door)).collect::<Result<_>>()?;
        contact.libs = get(&name(kind, "LIBS")).map(Into::into);
        Ok(Some(contact))
    }
}

impl Door {
    fn to_text(self) -> String {
        format!("{}={}", self.upstream, self.advertised)
    }

    fn read(kind: Kind, text: &str) -> Result<Self> {
        let (upstream, advertised) = text.split_once('=').unwrap_or((text, ""));
        let address = |text| parsed::<SocketAddr>(kind, "DOORS", text);
        Ok(Self { upstream: address(upstream)?, advertised: address(advertised)? })
    }
}

fn parsed<T: std::str::FromStr>(kind: Kind, what: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| invalid(&name(kind, what), &format!("`{text}` makes no sense")))
}

fn invalid(name: &str, why: &str) -> Error {
    Error::Invalid(format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_contact_comes_back_from_its_variables() {
        let endpoint = |port| Endpoint::new(address(port), |address| address.to_string());
        let mut kafka = Contact::new(Kind::Kafka, endpoint(1));
        kafka.others.insert(Access::Tls, endpoint(2));
        kafka.folder = Some("data".into());
        kafka.libs = Some("libs".into());
        kafka.pids = vec![12, 13];
        kafka.doors = vec![Door { upstream: address(3), advertised: address(4) }; 2];
        let variables = kafka.variables();
        assert_eq!(variables[0], ("HOOKBUS_TEST_KAFKA_BROKERS".into(), "127.0.0.1:1".into()));
        assert_eq!(variables[1], ("HOOKBUS_TEST_KAFKA_TLS_BROKERS".into(), "127.0.0.1:2".into()));

        let get =
            |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let read = Contact::read(Kind::Kafka, get).unwrap().unwrap();
        assert_eq!(read.variables(), variables);
        assert!(Contact::read(Kind::Redis, get).unwrap().is_none());
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        let get = |name: &str| match name {
            "HOOKBUS_TEST_KAFKA_BROKERS" => Some("127.0.0.1:1".to_owned()),
            "HOOKBUS_TEST_KAFKA_DOORS" => Some("127.0.0.1:2".to_owned()),
            _ => None,
        };
        let error = Contact::read(Kind::Kafka, get).unwrap_err().to_string();
        assert_eq!(error, "HOOKBUS_TEST_KAFKA_DOORS: `` makes no sense");
    }
}
