//! RabbitMQ: its configuration, `rabbitmqctl`, readiness.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{
    Access, Certificates, Contact, Error, Kind, Options, Result,
    broker::Plan,
    contact::{Endpoint, TIME},
    error::Doing as _,
    folders::write,
    options::setting,
    ports,
    process::{Launch, output},
};

/// Debian's commands of the same names change the user and drop the environment; these do not.
pub(crate) const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// The same for all: each has an `epmd` of its own, where names are registered.
const NODE: &str = "hookbus@localhost";

pub(crate) fn plan(folder: &Path, options: &Options) -> Result<Plan> {
    let (address, distribution, epmd) = (ports::free()?, ports::free()?, ports::free()?);
    let url = |scheme: &'static str| move |at| format!("{scheme}://guest:guest@{at}/%2f");
    let mut contact = Contact::new(Kind::RabbitMq, Endpoint::new(address, url("amqp")));
    contact.folder = Some(folder.to_owned());
    contact.epmd = Some(epmd);
    let mut defaults = vec![
        setting("listeners.tcp.1", address),
        // One log, the one that is shown when it does not come up.
        setting("log.file", "false"),
        setting("log.console", "true"),
    ];
    if options.is_secured() {
        let tls = ports::free()?;
        let certificates = Certificates::make(folder)?;
        defaults.extend([
            setting("listeners.ssl.1", tls),
            setting("ssl_options.cacertfile", certificates.ca.display()),
            setting("ssl_options.certfile", certificates.cert.display()),
            setting("ssl_options.keyfile", certificates.key.display()),
            setting("ssl_options.verify", "verify_peer"),
            setting("ssl_options.fail_if_no_peer_cert", "false"),
        ]);
        contact.others.extend([
            (Access::Password, contact.plain.clone()),
            (Access::Tls, Endpoint::new(tls, url("amqps"))),
            (Access::PasswordTls, Endpoint::new(tls, url("amqps"))),
        ]);
    }
    write(&folder.join("rabbitmq.conf"), &options.lines(&defaults, " = "))?;
    write(&folder.join("plugins"), "[].\n")?;
    write(&folder.join("environment"), "")?;

    let mut environment = surroundings(folder, epmd);
    let path = |name: &str| folder.join(name).display().to_string();
    environment.extend([
        ("RABBITMQ_NODENAME", NODE.to_owned()),
        ("RABBITMQ_NODE_PORT", address.port().to_string()),
        ("RABBITMQ_DIST_PORT", distribution.port().to_string()),
        ("RABBITMQ_MNESIA_BASE", path("mnesia")),
        ("RABBITMQ_LOG_BASE", path("logs")),
        ("RABBITMQ_PID_FILE", path("pid")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq")),
        // The machine's own file would overrule what is here.
        ("RABBITMQ_CONF_ENV_FILE", path("environment")),
        // Without a shell that stays above it: its process is the broker.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
    ]);
    let launch = |program: &str, arguments: Vec<String>, environment| Launch {
        program: program.into(),
        arguments,
        environment,
        folder: folder.to_owned(),
        log: folder.join("log"),
    };
    // RabbitMQ would start one by itself where there is none, as a daemon that nobody stops.
    let companion = launch(
        "epmd",
        vec!["-port".into(), epmd.port().to_string(), "-address".into(), epmd.ip().to_string()],
        Vec::new(),
    );
    let main = launch(SERVER, Vec::new(), environment);
    Ok(Plan {
        contact,
        preparation: None,
        companion: Some(companion),
        main,
        patience: Duration::from_secs(120),
    })
}

/// What server and `rabbitmqctl` must agree on: the cookie, which is in the home folder, and where names are.
fn surroundings(folder: &Path, epmd: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_PORT", epmd.port().to_string()),
        ("ERL_EPMD_ADDRESS", epmd.ip().to_string()),
    ]
}

pub(crate) fn ctl(contact: &Contact, arguments: &[&str]) -> Result<String> {
    let (Some(folder), Some(epmd)) = (contact.folder(), contact.epmd) else {
        return Err(Error::Invalid("rabbitmqctl needs the folder and the epmd of a RabbitMQ".into()));
    };
    let mut command = Command::new(CTL);
    command.args(["-n", NODE]).args(arguments).envs(surroundings(folder, epmd));
    output(command.current_dir(folder))
}

/// A client's first bytes are answered with the method Connection.Start, class 10 method 10, on channel 0.
pub(crate) fn answers(contact: &Contact) -> Result<()> {
    let doing = || format!("greet {}", contact.address());
    let mut stream = TcpStream::connect_timeout(&contact.address(), TIME).doing(doing)?;
    stream.set_read_timeout(Some(TIME)).doing(doing)?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").doing(doing)?;
    let mut head = [0; 11];
    stream.read_exact(&mut head).doing(doing)?;
    match (head[0], &head[7..]) {
        (1, [0, 10, 0, 10]) => Ok(()),
        _ => Err(Error::Refused(format!("answers {head:?} instead of Connection.Start"))),
    }
}
