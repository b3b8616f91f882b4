//! An address as records hold it: its keys and values, and the form that events take there. Changing it changes the
//! format.

use std::{fmt, marker::PhantomData};

use hookbus_core::{Address, Form, Format, Redaction};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeTuple as _,
};
use smallvec::SmallVec;

/// In the byte that counts the keys which say where it is: a form follows. Addresses have a handful of keys, so that no
/// record of before there were forms has it; and whoever knows of none cannot read one that does, instead of putting an
/// event somewhere unmasked.
const HAS_FORM: u8 = 0x80;

/// An address, borrowed both ways.
#[derive(Debug)]
pub(crate) struct AddressNote<'a> {
    parts: SmallVec<[(&'a str, &'a str); 2]>,
    place: u8,
    form: Option<Form>,
}

/// A form that is not the plain one.
#[derive(Serialize, Deserialize)]
struct FormNote<'a> {
    structured: bool,
    /// The pointers of what is masked.
    #[serde(borrow)]
    masked: SmallVec<[&'a str; 4]>,
}

impl<'a> AddressNote<'a> {
    pub(crate) fn new(address: &'a Address) -> Self {
        // Invariant: sink types have a handful of keys.
        let place = u8::try_from(address.place_len()).unwrap_or(u8::MAX) & !HAS_FORM;
        Self { parts: address.iter().collect(), place, form: address.form().cloned() }
    }

    pub(crate) fn address(&self) -> Address {
        let address = Address::from_parts(self.parts.iter().copied(), usize::from(self.place));
        match &self.form {
            Some(form) => address.with_form(form.clone()),
            None => address,
        }
    }

    /// Bytes that an address takes, at most.
    pub(crate) fn size(address: &Address) -> usize {
        let parts = address.iter().map(|(name, value)| name.len() + value.len() + 8);
        let masked = address.form().and_then(Form::redaction).into_iter().flat_map(Redaction::pointers);
        parts.sum::<usize>() + masked.map(|pointer| pointer.len() + 4).sum::<usize>()
    }
}

impl Serialize for AddressNote<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let flag = if self.form.is_some() { HAS_FORM } else { 0 };
        let mut tuple = out.serialize_tuple(3)?;
        tuple.serialize_element(&self.parts)?;
        tuple.serialize_element(&(self.place | flag))?;
        if let Some(form) = &self.form {
            let masked = form.redaction().into_iter().flat_map(Redaction::pointers).collect();
            tuple.serialize_element(&FormNote { structured: form.format() == Format::Structured, masked })?;
        }
        tuple.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for AddressNote<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Parts<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for Parts<'a> {
            type Value = AddressNote<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let short = || A::Error::custom("an address is cut off");
                let parts = seq.next_element()?.ok_or_else(short)?;
                let place: u8 = seq.next_element()?.ok_or_else(short)?;
                let form = match place & HAS_FORM {
                    0 => None,
                    _ => Some(seq.next_element::<FormNote<'a>>()?.ok_or_else(short)?),
                };
                let form = form.map(FormNote::read).transpose().map_err(A::Error::custom)?;
                Ok(AddressNote { parts, place: place & !HAS_FORM, form })
            }
        }
        input.deserialize_tuple(3, Parts(PhantomData))
    }
}

impl FormNote<'_> {
    fn read(self) -> Result<Form, hookbus_core::redaction::BadRedaction> {
        let format = if self.structured { Format::Structured } else { Format::Binary };
        Ok(Form::new(format).redacted(Some(Redaction::new(self.masked)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [(&str, &str); 2] = [("topic", "media"), ("key", "k")];

    /// What records held before there were forms.
    #[derive(Serialize, Deserialize)]
    struct Before<'a> {
        #[serde(borrow)]
        parts: SmallVec<[(&'a str, &'a str); 2]>,
        place: u8,
    }

    #[test]
    fn a_plain_address_is_written_as_ever_and_one_of_before_is_read() {
        let address = Address::from_parts(PARTS, 1);
        let before = postcard::to_stdvec(&Before { parts: PARTS.into_iter().collect(), place: 1 }).unwrap();
        assert_eq!(postcard::to_stdvec(&AddressNote::new(&address)).unwrap(), before);
        let read: AddressNote<'_> = postcard::from_bytes(&before).unwrap();
        assert_eq!((read.address().place_len(), read.address().form()), (1, None));
        assert_eq!(read.address(), address);
    }

    #[test]
    fn a_form_comes_back_and_whoever_knows_none_reads_nothing() {
        let redaction = Redaction::new(["/data/streamKey", "/data/srtSecret"]).unwrap();
        for form in [
            Form::new(Format::Structured),
            Form::new(Format::Binary).redacted(Some(redaction.clone())),
            Form::new(Format::Structured).redacted(Some(redaction)),
        ] {
            let address = Address::from_parts(PARTS, 1).with_form(form.clone());
            // With more behind it, as in a list.
            let bytes = postcard::to_stdvec(&(AddressNote::new(&address), 7_u8)).unwrap();
            assert!(bytes.len() <= AddressNote::size(&address) + 2);
            let (read, rest): (AddressNote<'_>, u8) = postcard::from_bytes(&bytes).unwrap();
            assert_eq!((read.address().form(), rest), (Some(&form), 7));
            assert_eq!(read.address(), address);
            let (_, rest) = postcard::take_from_bytes::<Before<'_>>(&bytes).unwrap();
            assert!(rest.len() > 1, "what is left over makes the record unreadable");
        }
    }

    #[test]
    fn a_form_that_is_none_makes_the_address_unreadable() {
        let address = |masked: &[&'static str]| {
            let form = FormNote { structured: false, masked: masked.iter().copied().collect() };
            let parts: SmallVec<[(&str, &str); 2]> = PARTS.into_iter().collect();
            postcard::to_stdvec(&(parts, HAS_FORM | 1, form)).unwrap()
        };
        assert!(postcard::from_bytes::<AddressNote<'_>>(&address(&["/a"])).is_ok());
        assert!(postcard::from_bytes::<AddressNote<'_>>(&address(&["/a", "b"])).is_err());
    }
}
