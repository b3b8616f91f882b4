//! A claim can only come out of a request that was examined.

use hookbus_core::{Claim, RequestHead, Verifier};

fn forge<'a>(verifier: &'a Verifier, head: RequestHead<'a>) -> Claim<'a> {
    Claim { verifier, head, candidates: Default::default(), ts: b"", time: None, id: b"" }
}

fn main() {
    let _ = forge;
}
