//! A record can only come out of a proof: otherwise anybody could restore an event that was never verified.

#![allow(unreachable_code)]

use hookbus_core::{VerifiedEvent, record::Record};

fn main() {
    let record = Record { head: unreachable!(), content: b"", event: 0 };
    let _ = VerifiedEvent::restore(&record);
}
