//! The floor: the least a receiver of signed webhooks can do over hyper.
//!
//! It reads the body, computes one HMAC, compares, and answers. No route, no limit, no parsing, nothing kept: what
//! the bridge costs beyond this is what the bridge does beyond this.

use std::{
    convert::Infallible,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Parser;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::{net::TcpListener, runtime::Builder};

/// The bare server that throughput figures are compared with. Prints the address it listens on.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File with the signing secret in base64.
    #[arg(long)]
    secret_file: PathBuf,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let file = &arguments.secret_file;
    let secret =
        fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let key = STANDARD.decode(secret.trim_end()).map_err(|error| format!("{}: {error}", file.display()))?;
    let mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| format!("{}: {error}", file.display()))?;
    let runtime = Builder::new_multi_thread().worker_threads(arguments.workers.max(1)).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(serve(arguments.listen, Arc::new(mac)))
}

async fn serve(listen: SocketAddr, mac: Arc<Hmac<Sha256>>) -> Result<(), String> {
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("no address to listen on: {error}"))?;
    writeln!(io::stdout(), "{address}").map_err(|error| format!("cannot print the address: {error}"))?;
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| format!("cannot accept: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("cannot set TCP_NODELAY: {error}"))?;
        let mac = Arc::clone(&mac);
        let service = service_fn(move |request| answer(request, Hmac::clone(&mac)));
        tokio::spawn(async move {
            // A client that leaves is no concern of the floor.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, mac: Hmac<Sha256>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let authentic = verify(&head.headers, body, mac).await.is_some();
    let mut response = Response::new(Full::new(Bytes::from_static(if authentic { b"{}" } else { b"" })));
    *response.status_mut() = if authentic { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    Ok(response)
}

async fn verify(headers: &HeaderMap, mut body: Incoming, mut mac: Hmac<Sha256>) -> Option<()> {
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            mac.update(data);
        }
    }
    let mut signature = [0; 33];
    let length = STANDARD.decode_slice(headers.get("fastpix-signature")?, &mut signature).ok()?;
    mac.verify_slice(&signature[..length]).ok()
}
