//! What TLS is agreed on, seen by another implementation: `openssl s_client`.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use crate::support::{Bridge, Certificate, Setup, say};

/// What a client offers, and what comes of it: protocol and cipher, or nothing.
const MATRIX: [(&str, &[&str], Option<&str>); 16] = [
    ("SSL 3", &["-min_protocol", "SSLv3", "-max_protocol", "SSLv3"], None),
    ("TLS 1.0", &["-tls1"], None),
    ("TLS 1.1", &["-tls1_1"], None),
    ("TLS 1.2", &["-tls1_2"], Some("TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384")),
    ("TLS 1.3", &["-tls1_3"], Some("TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384")),
    (
        "TLS 1.2, AES-128-GCM",
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        Some("TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
    ),
    (
        "TLS 1.2, ChaCha20",
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        Some("TLSv1.2, Cipher is ECDHE-ECDSA-CHACHA20-POLY1305"),
    ),
    (
        "TLS 1.3, ChaCha20",
        &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        Some("TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256"),
    ),
    ("TLS 1.3, CCM", &["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], None),
    ("CBC", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"], None),
    ("no forward secrecy", &["-tls1_2", "-cipher", "AES256-GCM-SHA384:AES128-SHA:@SECLEVEL=0"], None),
    ("finite-field DHE", &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0"], None),
    ("nobody's certificate", &["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"], None),
    ("no encryption", &["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"], None),
    ("curve X25519", &["-tls1_3", "-groups", "X25519"], Some("TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384")),
    ("curve secp192r1", &["-tls1_2", "-groups", "P-192"], None),
];

/// What a client offers by ALPN, and what it gets.
const ALPN: [(&str, Option<&str>); 5] = [
    ("h2,http/1.1", Some("ALPN protocol: h2")),
    ("http/1.1,h2", Some("ALPN protocol: h2")),
    ("http/1.1", Some("ALPN protocol: http/1.1")),
    ("", Some("No ALPN negotiated")),
    ("spdy/3", None),
];

#[tokio::test]
async fn only_what_is_strong_is_agreed_on() {
    let bridge = Bridge::start_tls(Setup::default(), &Certificate::new()).await;
    say("| a client that offers | gets |\n|---|---|");
    for (name, offer, expected) in MATRIX {
        let agreed = agreed(bridge.address(), offer, "New, ");
        let agreed = agreed.filter(|agreed| !agreed.contains("(NONE)"));
        say(&format!("| {name} | {} |", agreed.as_deref().unwrap_or("refused")));
        assert_eq!(agreed.as_deref(), expected, "{name}");
    }
    for (offer, expected) in ALPN {
        let alpn = ["-alpn", offer];
        let offers = if offer.is_empty() { &[][..] } else { &alpn };
        let text = run(bridge.address(), offers);
        let line = text.lines().find(|line| line.contains("ALPN protocol:") || line.contains("No ALPN"));
        let agreed = line.filter(|_| !text.contains("alert no application protocol")).map(str::trim);
        say(&format!("| ALPN {offer:?} | {} |", agreed.unwrap_or("refused")));
        assert_eq!(agreed, expected, "{offer}");
    }
}

/// What stands behind these words.
fn agreed(address: SocketAddr, offer: &[&str], words: &str) -> Option<String> {
    let text = run(address, offer);
    text.lines().find_map(|line| line.strip_prefix(words)).map(str::to_owned)
}

fn run(address: SocketAddr, offer: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-servername", "localhost"]).args(offer);
    let output = command.stdin(Stdio::null()).output().unwrap();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}
