//! A bridge with the custom sink, fed over HTTP, its scaffold taken away and put back.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod scaffold;

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use hookbus::{
    ConfigText, Hookbus,
    core::{Scheme, Secret, verify::ToSign},
};
use scaffold::FakeScaffold;
use scaffold_sink::Scaffold;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const SECRET: &str = "a text that only the two ends know";

/// Posts a signed Fastgen event and returns the status.
async fn post(bridge: SocketAddr, id: &str) -> u16 {
    let body = format!(r#"{{"event":"workflow-finished","id":"{id}","payload":{{}}}}"#);
    let (secret, method, now) = (Secret::new(SECRET), "POST".parse().unwrap(), SystemTime::now());
    let request = ToSign {
        secret: &secret,
        method: &method,
        url: "",
        id: "",
        event_type: "",
        now,
        body: body.as_bytes(),
    };
    let signed = Scheme::built_in("fastgen").unwrap().sign(request).unwrap();
    let mut head = format!(
        "POST /hooks/fastgen HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    for (name, value) in &signed {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let mut stream = TcpStream::connect(bridge).await.unwrap();
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].parse().unwrap()
}

#[tokio::test]
async fn events_reach_the_scaffold_and_wait_for_it_to_come_back() {
    let scaffold = FakeScaffold::start().await;
    let address = scaffold.address;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let config = format!(
        "[server]\nlisten = '127.0.0.1:0'\n[sources.fastgen]\nprovider = 'fastgen'\nsecrets = [{{ file = '{}' }}]\n\
         ack = 'sinks'\nack-timeout = '1s'\n[sinks.mine]\ntype = 'scaffold'\naddress = '{address}'\n\
         [[routes]]\nname = 'all'\nto = [{{ sink = 'mine' }}]\n",
        secret.display()
    );
    let builder = Hookbus::builder().with_builtin_sinks().register_plugin::<Scaffold>();
    let bridge = builder.start(&ConfigText::new(config)).await.unwrap();
    let at = bridge.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bridge.serve(async {
        let _ = stopped.await;
    }));

    assert_eq!(post(at, "e1").await, 200);
    assert!(scaffold.lines().last().unwrap().contains(r#""id":"e1""#));

    scaffold.stop().await;
    assert_eq!(post(at, "e2").await, 503, "nobody confirmed it");

    scaffold.start_again().await;
    let delivered = async {
        // Like a provider: again and again until it is taken.
        while post(at, "e2").await != 200 {}
    };
    tokio::time::timeout(Duration::from_secs(60), delivered).await.unwrap();
    assert!(scaffold.lines().last().unwrap().contains(r#""id":"e2""#));

    stop.send(()).unwrap();
    assert_eq!(serving.await.unwrap().connections_cut, 0);
}
