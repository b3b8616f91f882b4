//! Real brokers, started, killed, paused: what other tests build on.

#![allow(clippy::unwrap_used, reason = "in a test a failed step is a failed test")]

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hookbus_brokers::{Access, Broker, Contact, Error, Kind, Options, PASSWORD, USER, private};

/// Processes that run in this folder, or in a folder that was there.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let runs_in = |path: &PathBuf| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    processes.filter(runs_in).collect()
}

/// Drops the broker: then nothing of it is left, neither a process nor a file nor a listener.
fn nothing_is_left_of(broker: Broker) {
    let (folder, contact) = (broker.folder().unwrap().to_owned(), broker.contact().clone());
    assert!(!processes_in(&folder).is_empty());
    drop(broker);
    assert!(!folder.exists());
    assert_eq!(processes_in(&folder), Vec::<PathBuf>::new());
    assert!(TcpListener::bind(contact.address()).is_ok());
}

/// What `openssl s_client` says of a TLS endpoint that it checks against the broker's authority.
fn handshake(contact: &Contact, access: Access, with_certificate: bool) -> (bool, String) {
    let certificates = contact.certificates().unwrap();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-connect"]);
    client.arg(contact.endpoint(access).unwrap().address.to_string()).arg("-CAfile").arg(&certificates.ca);
    if with_certificate {
        client.arg("-cert").arg(&certificates.client_cert).arg("-key").arg(&certificates.client_key);
    }
    let output = client.stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success() && text.contains("Verify return code: 0 (ok)"), text)
}

fn says_hello(contact: &Contact, access: Access) {
    let (good, text) = handshake(contact, access, true);
    assert!(good, "{access:?}: {text}");
}

/// A paused broker takes a connection, as the kernel does that, and says nothing on it.
fn is_silent_while_paused(broker: &Broker, question: &[u8]) {
    broker.pause().unwrap();
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.write_all(question).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    broker.resume().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(stream.read(&mut [0; 16]).unwrap() > 0);
}

#[test]
fn redis_keeps_what_it_fsynced_through_a_kill() {
    let options = Options::secured().set("appendonly", "yes").set("appendfsync", "always");
    let Some(mut redis) = private(Kind::Redis, &options) else { return };
    assert_eq!(redis.redis(&["SET", "key", "a b"]).unwrap(), "OK");
    let (url, pid) = (redis.url().to_owned(), redis.pid().unwrap());
    redis.kill().unwrap();
    assert!(TcpStream::connect(redis.address()).is_err() && redis.pid().is_none());
    assert!(redis.pause().is_err());
    redis.restart().unwrap();
    assert!(redis.url() == url && redis.pid().unwrap() != pid);
    assert_eq!(redis.redis(&["GET", "key"]).unwrap(), "a b");

    is_silent_while_paused(&redis, b"PING\r\n");
    assert_eq!(redis.redis(&["ACL", "WHOAMI"]).unwrap(), USER);
    assert!(redis.endpoint(Access::Password).unwrap().url.contains(PASSWORD));
    says_hello(&redis, Access::Tls);
    redis.stop().unwrap();
    redis.restart().unwrap();
    assert_eq!(redis.redis(&["GET", "key"]).unwrap(), "a b");
    nothing_is_left_of(redis);
}

#[test]
fn a_replica_of_redis_follows_the_first() {
    let Some(first) = private(Kind::Redis, &Options::default()) else { return };
    let replica = Broker::temporary(Kind::Redis, &Options::default().replica_of(first.address())).unwrap();
    first.redis(&["SET", "key", "value"]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while replica.redis(&["GET", "key"]).unwrap() != "value" {
        assert!(Instant::now() < deadline, "{}", replica.redis(&["INFO", "replication"]).unwrap());
        // At most a second, until the replica has something to say.
        first.redis(&["WAIT", "1", "1000"]).unwrap();
    }
    assert!(replica.redis(&["INFO", "replication"]).unwrap().contains("role:slave"));
    assert!(replica.redis(&["SET", "key", "other"]).unwrap_err().to_string().starts_with("READONLY"));
}

#[test]
fn a_broker_that_does_not_come_up_says_why() {
    let options = Options::default().set("appendfsync", "sometimes");
    if private(Kind::Redis, &Options::default()).is_none() {
        return;
    }
    let error = Broker::temporary(Kind::Redis, &options).unwrap_err();
    assert!(matches!(error, Error::NotReady { kind: Kind::Redis, .. }));
    assert!(error.to_string().contains("appendfsync sometimes"), "{error}");
}

/// Two roles: the test runs this file once more, with a variable, and kills that while its broker runs.
#[test]
fn a_broker_dies_with_the_process_that_started_it() {
    const ROLE: &str = "HOOKBUS_TEST_HOLD_A_BROKER";
    let Some(redis) = private(Kind::Redis, &Options::default()) else { return };
    if env::var_os(ROLE).is_some() {
        writeln!(io::stdout(), "\nbroker {}", redis.address()).unwrap();
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let mut holder = Command::new(env::current_exe().unwrap());
    holder.args(["--exact", "a_broker_dies_with_the_process_that_started_it", "--nocapture"]).env(ROLE, "1");
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("broker ")?.parse::<SocketAddr>().ok()).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    // A connection, if there still is one, is closed or reset as soon as the broker ends.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Ok(mut connection) = TcpStream::connect(address) {
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = connection.read(&mut [0]);
        assert!(Instant::now() < deadline, "the broker outlived its process");
    }
}

#[test]
fn rabbitmq_comes_back_after_a_kill_and_leaves_nothing() {
    let options = Options::secured().set("max_message_size", "1000000");
    let Some(mut rabbitmq) = private(Kind::RabbitMq, &options) else { return };
    assert!(rabbitmq.url().starts_with("amqp://guest:guest@127.0.0.1:") && rabbitmq.url().ends_with("/%2f"));
    rabbitmq.rabbitmqctl(&["add_vhost", "kept"]).unwrap();
    says_hello(&rabbitmq, Access::Tls);
    is_silent_while_paused(&rabbitmq, b"AMQP\x00\x00\x09\x01");
    rabbitmq.kill().unwrap();
    assert_eq!(processes_in(rabbitmq.folder().unwrap()), Vec::<PathBuf>::new());
    rabbitmq.restart().unwrap();
    let hosts = rabbitmq.rabbitmqctl(&["list_vhosts", "--silent"]).unwrap();
    assert!(hosts.lines().any(|host| host == "kept"), "{hosts}");
    let limit = rabbitmq.rabbitmqctl(&["eval", "application:get_env(rabbit, max_message_size)."]).unwrap();
    assert!(limit.contains("1000000"), "{limit}");
    rabbitmq.stop().unwrap();
    rabbitmq.restart().unwrap();
    nothing_is_left_of(rabbitmq);
}

#[test]
fn kafka_comes_back_after_a_kill_and_lists_its_doors() {
    let options = Options::secured().set("message.max.bytes", "2000000");
    let Some(mut kafka) = private(Kind::Kafka, &options) else { return };
    assert_eq!(kafka.url(), kafka.address().to_string());
    for access in [Access::Tls, Access::MutualTls, Access::PasswordTls] {
        says_hello(&kafka, access);
    }
    // In TLS 1.3 the client is done before the server refuses; what it reads then is an alert.
    let (_, text) = handshake(&kafka, Access::MutualTls, false);
    assert!(text.contains("Acceptable client certificate CA names"), "{text}");
    for door in kafka.doors() {
        TcpStream::connect(door.upstream).unwrap();
        TcpListener::bind(door.advertised).unwrap();
    }
    // Versions 0 to 0 of ApiVersions: a client's first question.
    is_silent_while_paused(&kafka, &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    kafka.kill().unwrap();
    assert!(TcpStream::connect(kafka.address()).is_err());
    kafka.restart().unwrap();
    kafka.stop().unwrap();
    kafka.restart().unwrap();
    nothing_is_left_of(kafka);
}
