//! Kafka: one node without ZooKeeper, its listeners and doors.

use std::{net::SocketAddr, path::Path, time::Duration};

use crate::{
    Access, Certificates, Contact, Door, Kind, Options, PASSWORD, Result, USER, broker::Plan,
    contact::Endpoint, folders::write, jars, metadata, options::setting, ports, process::Launch,
};

/// How many doors a broker has.
const DOORS: usize = 6;

/// Any 22 characters of base64url.
const CLUSTER: &str = "hookbusTestsClusterAAA";

/// For tests a quick start counts more than the code the second compiler would make in minutes.
const JVM: [&str; 4] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];

/// A listener: its name, its protocol, where it listens, and where it says it does.
struct Listener {
    name: String,
    protocol: &'static str,
    at: SocketAddr,
    advertised: SocketAddr,
}

impl Listener {
    fn new(name: &str, protocol: &'static str, at: SocketAddr) -> Self {
        Self { name: name.into(), protocol, at, advertised: at }
    }
}

pub(crate) fn plan(folder: &Path, options: &Options) -> Result<Plan> {
    let libs = jars::folder()?;
    let plain = Endpoint::new(ports::free()?, |at| at.to_string());
    let mut contact = Contact::new(Kind::Kafka, plain);
    contact.libs = Some(libs.clone());
    let mut listeners = vec![Listener::new("PLAIN", "PLAINTEXT", contact.address())];
    for number in 0..DOORS {
        let door = Door { upstream: ports::free()?, advertised: ports::free()? };
        let listener = Listener::new(&format!("DOOR{number}"), "PLAINTEXT", door.upstream);
        listeners.push(Listener { advertised: door.advertised, ..listener });
        contact.doors.push(door);
    }
    let mut defaults = node();
    if options.is_secured() {
        for (access, protocol) in [
            (Access::Password, "SASL_PLAINTEXT"),
            (Access::Tls, "SSL"),
            (Access::MutualTls, "SSL"),
            (Access::PasswordTls, "SASL_SSL"),
        ] {
            let endpoint = Endpoint::new(ports::free()?, |at| at.to_string());
            listeners.push(Listener::new(access.name(), protocol, endpoint.address));
            contact.others.insert(access, endpoint);
        }
        defaults.extend(security(&Certificates::make(folder)?)?);
    }
    defaults.push(setting("log.dirs", folder.join("data").display()));
    defaults.extend(network(&listeners, ports::free()?));
    let file = folder.join("server.properties");
    write(&file, &options.lines(&defaults, "="))?;

    let java = |before: &[&str], class: &str, behind: &[&str]| {
        let class_path = libs.join("*").display().to_string();
        let mut arguments = before.to_vec();
        arguments.extend(["-Dorg.apache.logging.log4j.level=WARN", "-cp", &class_path, class]);
        arguments.extend(behind);
        Launch {
            program: "java".into(),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            environment: Vec::new(),
            folder: folder.to_owned(),
            log: folder.join("log"),
        }
    };
    let file = file.display().to_string();
    let scram = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
        .map(|mechanism| format!("{mechanism}=[name={USER},password={PASSWORD}]"));
    let mut format = vec!["format", "--ignore-formatted", "-t", CLUSTER, "-c", &file];
    format.extend(scram.iter().flat_map(|user| ["--add-scram", user]));
    Ok(Plan {
        contact,
        preparation: Some(java(&JVM, "kafka.tools.StorageTool", &format)),
        companion: None,
        main: java(&JVM, "kafka.Kafka", &[&file]),
        patience: Duration::from_secs(120),
    })
}

/// One node for everything.
fn node() -> Vec<(String, String)> {
    vec![
        setting("process.roles", "broker,controller"),
        setting("node.id", 1),
        setting("controller.listener.names", "CONTROLLER"),
        setting("inter.broker.listener.name", "PLAIN"),
        setting("auto.create.topics.enable", false),
        setting("offsets.topic.replication.factor", 1),
        setting("offsets.topic.num.partitions", 1),
        setting("transaction.state.log.replication.factor", 1),
        setting("transaction.state.log.min.isr", 1),
        setting("transaction.state.log.num.partitions", 1),
        setting("group.initial.rebalance.delay.ms", 0),
        // After a kill the controller waits so long until it believes that the broker of before is gone.
        setting("broker.session.timeout.ms", 3000),
        setting("broker.heartbeat.interval.ms", 500),
    ]
}

fn network(listeners: &[Listener], controller: SocketAddr) -> Vec<(String, String)> {
    let joined =
        |text: &dyn Fn(&Listener) -> String| listeners.iter().map(text).collect::<Vec<_>>().join(",");
    let at = joined(&|listener| format!("{}://{}", listener.name, listener.at));
    let protocols = joined(&|listener| format!("{}:{}", listener.name, listener.protocol));
    vec![
        setting("controller.quorum.voters", format!("1@{controller}")),
        setting("listeners", format!("{at},CONTROLLER://{controller}")),
        setting(
            "advertised.listeners",
            joined(&|listener| format!("{}://{}", listener.name, listener.advertised)),
        ),
        setting("listener.security.protocol.map", format!("{protocols},CONTROLLER:PLAINTEXT")),
    ]
}

fn security(certificates: &Certificates) -> Result<Vec<(String, String)>> {
    let mut settings = vec![
        setting("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
        setting("ssl.keystore.type", "PEM"),
        setting("ssl.keystore.location", certificates.keystore()?.display()),
        setting("ssl.truststore.type", "PEM"),
        setting("ssl.truststore.location", certificates.ca.display()),
        setting("listener.name.mutual_tls.ssl.client.auth", "required"),
    ];
    const MODULES: &str = "org.apache.kafka.common.security";
    for listener in ["password", "password_tls"] {
        let key = |mechanism| format!("listener.name.{listener}.{mechanism}.sasl.jaas.config");
        let plain = format!("{MODULES}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
        settings.push(setting(key("plain"), plain));
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            settings.push(setting(key(mechanism), format!("{MODULES}.scram.ScramLoginModule required;")));
        }
    }
    Ok(settings)
}

pub(crate) fn answers(contact: &Contact) -> Result<()> {
    metadata::lists(contact.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_says_it_is_somewhere_else_and_the_controller_says_nothing() {
        let [one, two, three] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let door = Listener { advertised: two, ..Listener::new("DOOR0", "PLAINTEXT", one) };
        let settings = network(&[door], three);
        let values = settings.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>();
        assert_eq!(
            values,
            [
                "1@127.0.0.1:3",
                "DOOR0://127.0.0.1:1,CONTROLLER://127.0.0.1:3",
                "DOOR0://127.0.0.1:2",
                "DOOR0:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ]
        );
    }
}
