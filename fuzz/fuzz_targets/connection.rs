//! Whatever bytes on a connection to a bridge that serves: it answers in HTTP or hangs up, accepts nothing, and is there for
//! the next one. Heads, framing and the telling apart of HTTP/1.1 and HTTP/2 are among what this reaches.
//!
//! Input: what a client sends before it closes its side.

#![no_main]

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::LazyLock,
    time::Duration,
};

use hookbus::{Hookbus, config::ConfigText};
use libfuzzer_sys::fuzz_target;

/// Nobody who makes up bytes signs with it.
const SECRET: &str = "aG9va2J1cyBmdXp6IHNlY3JldCBvZiAzMiBieXRlcyE=";

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
limits = { headers = "8KiB", body = "16KiB", refused-per-address = { rate = "1000000/s", burst = 1000000 } }
timeouts = { first-byte = "1s", headers = "1s", body = "1s", idle = "1s" }
[sources.fastpix]
provider = "fastpix"
secrets = [{ file = "SECRET_FILE" }]
ack = "sinks"
[sinks.kept]
type = "memory"
keep = 1
[[routes]]
name = "all"
to = [{ sink = "kept" }]
"#;

/// Where the bridge listens; it serves as long as the process lives.
static BRIDGE: LazyLock<SocketAddr> = LazyLock::new(|| {
    let secret = std::env::temp_dir().join(format!("hookbus-fuzz-{}.secret", std::process::id()));
    fs::write(&secret, SECRET).expect("a secret in a file");
    let config = ConfigText::new(CONFIG.replace("SECRET_FILE", &secret.display().to_string()));
    let (told, address) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let bridge = Hookbus::builder().with_builtin_sinks().start(&config).await.expect("a bridge");
            told.send(bridge.address()).expect("somebody waits");
            bridge.serve(std::future::pending()).await;
        });
    });
    let address = address.recv().expect("it listens");
    fs::remove_file(secret).expect("it was read");
    address
});

fuzz_target!(|data: &[u8]| {
    let mut client = TcpStream::connect(*BRIDGE).expect("a connection");
    client.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    // It may hang up before it has read all of it.
    let _ = client.write_all(data);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match client.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it neither answers nor hangs up: {error}"),
    }
    // A frame of HTTP/2 begins with its length: what a server says first is its settings, a few bytes.
    let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.") || answer.starts_with(&[0, 0]);
    assert!(is_http, "{}", String::from_utf8_lossy(&answer));
    assert!(!answer.windows(10).any(|bytes| bytes == b"\"accepted\""), "{}", String::from_utf8_lossy(&answer));
});
