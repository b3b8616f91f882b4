//! `hookbus demo`: everything at once, without a file, a broker or a port of its own choosing.

use std::{process::ExitCode, time::SystemTime};

use bytes::Bytes;
use hookbus_core::{Scheme, Secret};
use http::{HeaderMap, StatusCode, Uri};

use super::{
    FAILURE, Failure, Global, Outcome, client, failure,
    init::{development_secret, write_new},
    note, runtime,
    samples::sample,
    send::sign,
};
use crate::{ConfigText, Hookbus, append::private_folder};

/// One step: who sends what, and what must come of it.
struct Step {
    source: &'static str,
    story: &'static str,
    forged: bool,
}

const STEPS: [Step; 3] = [
    Step { source: "fastpix", story: "a genuine FastPix event (HMAC-SHA256, base64)", forged: false },
    Step { source: "fastgen", story: "a genuine Fastgen event (HMAC-SHA256, hex)", forged: false },
    Step {
        source: "fastpix",
        story: "a forged FastPix event: one byte of a signed body was changed",
        forged: true,
    },
];

pub(super) fn run(global: &Global) -> Outcome {
    let folder = std::env::temp_dir().join(format!("hookbus-demo-{}", uuid::Uuid::now_v7()));
    private_folder(&folder)?;
    let outcome = runtime()?.block_on(play(global, &folder));
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn play(global: &Global, folder: &std::path::Path) -> Outcome {
    let mut secrets = Vec::new();
    for source in ["fastpix", "fastgen"] {
        let secret = development_secret()?;
        write_new(&folder.join(source), 0o600, &secret)?;
        secrets.push((source, Secret::new(secret)));
    }
    let path = folder.join("hookbus.toml");
    std::fs::write(&path, include_str!("demo.toml"))?;
    let bridge = Hookbus::builder().with_builtin_sinks().start(&ConfigText::read(&path)?).await?;
    let address = bridge.address();
    note(format_args!("a bridge listens at http://{address}, with throw-away secrets; its sink is stdout\n"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bridge.serve(async {
        let _ = stopped.await;
    }));
    let mut as_told = true;
    for (at, step) in STEPS.iter().enumerate() {
        let to: Uri = format!("http://{address}/hooks/{}", step.source).parse()?;
        let secret = secrets.iter().find(|(source, _)| *source == step.source).map(|(_, secret)| secret);
        let Some(secret) = secret else { return failure("a step without a secret") };
        let (headers, body) = request(step, secret, &to)?;
        note(format_args!("{}. {}", at + 1, step.story));
        let answered = client::post(&to, headers, body).await?;
        let expected = if step.forged { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        as_told &= answered.status == expected;
        note(format_args!("   answered {}: {}", answered.status, answered.body));
        note(if step.forged { "   nothing was published\n" } else { "   published: the line on stdout\n" });
    }
    let _ = stop.send(());
    serving.await?;
    if !global.json {
        note("Next: `hookbus init` writes a configuration to go on from.");
    }
    Ok(if as_told { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

fn request(step: &Step, secret: &Secret, to: &Uri) -> Result<(HeaderMap, Bytes), Failure> {
    let Some(scheme) = Scheme::built_in(step.source) else { return failure("the scheme is built in") };
    let now = SystemTime::now();
    let mut body = sample(step.source, None, 0)?.body;
    let headers = sign(&scheme, secret, &to.to_string(), "", "", now, &body)?;
    if step.forged {
        // The signature stays; a letter of the body changes.
        let at = body.iter().position(|byte| *byte == b'r').unwrap_or_default();
        body[at] = b'R';
    }
    Ok((headers, body.into()))
}
