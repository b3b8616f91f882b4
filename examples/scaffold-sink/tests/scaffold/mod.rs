//! A scaffold for tests: it keeps every line and answers it.

#![allow(dead_code, reason = "each test uses its own part of it")]

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// The longest line that is taken, its end included.
pub(crate) const LONGEST: usize = 16 << 10;

/// A scaffold on loopback. What it took outlives its server.
pub(crate) struct FakeScaffold {
    pub(crate) address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl FakeScaffold {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this =
            Self { address: listener.local_addr().unwrap(), lines: Arc::default(), server: Mutex::default() };
        this.serve(listener);
        this
    }

    /// All lines so far, in the order they came.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Goes away, with all its connections.
    pub(crate) async fn stop(&self) {
        let server = self.server.lock().unwrap().take().unwrap();
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
    }

    /// Comes back at the same address.
    pub(crate) async fn start_again(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let lines = Arc::clone(&self.lines);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let lines = Arc::clone(&lines);
                connections.spawn(async move {
                    // A connection may break at any time; the next one is another.
                    let _ = answer(stream, &lines).await;
                });
            }
        });
        *self.server.lock().unwrap() = Some(server);
    }
}

impl Drop for FakeScaffold {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }
}

async fn answer(stream: TcpStream, lines: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let answer: &[u8] = match line.as_str() {
            // A line that is cut short was not sent.
            _ if !line.ends_with('\n') => return Ok(()),
            "\n" => b"ok\n",
            _ if line.len() > LONGEST => b"too large\n",
            _ => {
                lines.lock().unwrap().push(line);
                b"ok\n"
            }
        };
        stream.get_mut().write_all(answer).await?;
    }
}
