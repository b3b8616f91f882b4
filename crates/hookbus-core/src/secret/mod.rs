//! Secrets that do not show themselves, and where they are kept.

mod reference;

use std::fmt;

use zeroize::Zeroizing;

pub use reference::{SecretError, SecretRef};

/// A signing secret as its provider displays it. `Debug` hides it, dropping wipes it.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the displayed text as it is; use [`Secret::from_file_text`] for what was read from a file.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Takes a file's content and strips one trailing newline (`\n` or `\r\n`), which editors add.
    pub fn from_file_text(text: impl Into<Vec<u8>>) -> Self {
        let mut text = text.into();
        if text.last() == Some(&b'\n') {
            text.pop();
            if text.last() == Some(&b'\r') {
                text.pop();
            }
        }
        Self::new(text)
    }

    /// The secret itself: never log it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it, which is never a usable secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_stripped_and_no_more() {
        assert_eq!(Secret::from_file_text("a\n").expose(), b"a");
        assert_eq!(Secret::from_file_text("a\r\n").expose(), b"a");
        assert_eq!(Secret::from_file_text("a\n\n").expose(), b"a\n");
        assert_eq!(Secret::from_file_text(" a ").expose(), b" a ");
        assert_eq!(Secret::from_file_text("a\r").expose(), b"a\r");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("whsec_abc")), "Secret(..)");
    }
}
