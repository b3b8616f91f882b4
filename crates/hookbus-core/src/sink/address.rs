//! Where in a destination system an event goes: a topic, a stream, a file.

use std::{
    borrow::Cow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::Form;

/// A rendered and checked address: the keys of its sink's type with their values. Those that only decide the order
/// among events come last.
///
/// It carries the [`Form`] that its event takes there, so that both are settled at once. The form is no part of where it
/// is: addresses that differ in nothing else are equal.
#[derive(Clone)]
pub struct Address {
    parts: Arc<[(Cow<'static, str>, Box<str>)]>,
    /// How many of them say where it is.
    place: usize,
    form: Option<Arc<Form>>,
}

impl Address {
    /// An address of these keys and values. The order of keys of one kind stays.
    pub(crate) fn new(mut parts: Vec<(&AddressKey, Box<str>)>) -> Self {
        parts.sort_by_key(|(key, _)| key.decides_order());
        let place = parts.iter().filter(|(key, _)| !key.decides_order()).count();
        Self {
            parts: parts.into_iter().map(|(key, value)| (Cow::Borrowed(key.name()), value)).collect(),
            place,
            form: None,
        }
    }

    /// An address as it was written down: the keys and values of [`Address::iter`], of which the first `place` say where
    /// it is ([`Address::place_len`]).
    pub fn from_parts<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>, place: usize) -> Self {
        let parts: Arc<[_]> =
            parts.into_iter().map(|(name, value)| (Cow::Owned(name.to_owned()), value.into())).collect();
        let place = place.min(parts.len());
        Self { parts, place, form: None }
    }

    /// The same address, where events take this form.
    #[must_use]
    pub fn with_form(self, form: Form) -> Self {
        Self { form: (!form.is_plain()).then(|| Arc::new(form)), ..self }
    }

    /// The form that an event takes there; none where it is put there as it came, in binary mode.
    pub fn form(&self) -> Option<&Form> {
        self.form.as_deref()
    }

    /// How many of its keys say where it is; those that only decide the order come behind them.
    pub fn place_len(&self) -> usize {
        self.place
    }

    /// Where it is, without the keys that only decide the order among its events: what is there or missing, allowed
    /// or forbidden.
    #[must_use]
    pub fn place(&self) -> Self {
        if self.place == self.parts.len() {
            return Self { form: None, ..self.clone() };
        }
        Self { parts: self.parts[..self.place].into(), place: self.place, form: None }
    }

    /// The value of a key such as `topic`; nothing where an optional key had no value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.parts.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        (&self.parts, self.place) == (&other.parts, other.place)
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.parts, self.place).hash(hasher);
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.parts, self.place).cmp(&(&other.parts, other.place))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            write!(f, "{gap}{name}={}", value.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// One key of a sink type's addresses, as a route may write it.
#[derive(Clone, Copy, Debug)]
pub struct AddressKey {
    name: &'static str,
    default: Option<&'static str>,
    required: bool,
    check: fn(&str) -> Result<(), String>,
    ordering: bool,
}

impl AddressKey {
    /// A key that every route to such a sink must give.
    pub const fn required(name: &'static str) -> Self {
        Self { name, default: None, required: true, check: plain, ordering: false }
    }

    /// A key that a route may leave out; it is left out of the address too where its template has no value.
    pub const fn optional(name: &'static str) -> Self {
        Self { name, default: None, required: false, check: plain, ordering: false }
    }

    /// The template used where a route leaves the key out.
    #[must_use]
    pub const fn or(mut self, template: &'static str) -> Self {
        self.default = Some(template);
        self
    }

    /// A rule for rendered values, beside the general one (not empty, at most 1,024 bytes, no control characters).
    #[must_use]
    pub const fn checked(mut self, check: fn(&str) -> Result<(), String>) -> Self {
        self.check = check;
        self
    }

    /// The destination keeps order only among events that have the same value here; it does not say where they go. A
    /// template that differs within a group, because it uses more than the source and the subject, gets a warning.
    #[must_use]
    pub const fn ordering(mut self) -> Self {
        self.ordering = true;
        self
    }

    /// Whether the destination keeps order only among events that have the same value here.
    pub const fn decides_order(&self) -> bool {
        self.ordering
    }

    /// The key's name in a route.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The template used where a route leaves it out.
    pub const fn default(&self) -> Option<&'static str> {
        self.default
    }

    /// Whether an address without it is none.
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// Checks a rendered value: anybody who may send events chooses parts of it.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the value.
    pub fn check(&self, value: &str) -> Result<(), String> {
        plain(value)?;
        (self.check)(value)
    }
}

fn plain(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is empty".into());
    }
    if value.len() > 1024 {
        return Err(format!("is {} bytes long, more than 1024", value.len()));
    }
    if value.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    Ok(())
}
