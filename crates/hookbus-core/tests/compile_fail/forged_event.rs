//! An event can only come out of a claim that was verified.

#![allow(unreachable_code)]

use hookbus_core::VerifiedEvent;

fn main() {
    let _ = VerifiedEvent { inner: unreachable!(), view: unreachable!() };
}
