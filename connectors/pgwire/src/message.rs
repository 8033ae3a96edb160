//! Bytes of one backend message become checked fields; the messages of start-up and query phases.

use crate::error::Error;

/// One whole message from the server: its tag and the body after the length word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
}

/// Takes fields off the front of a body; every read is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// The body ended before a field did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truncated;

// === impl Message ===

/// Bytes of tag and length word.
pub(crate) const HEADER: usize = 5;

/// Largest message that start-up takes: no server has reason for more before it knows us.
pub(crate) const STARTUP_MESSAGE_MAX: usize = 64 * 1024;

/// The tag and body length announced at the front of `bytes`, once they are there.
pub(crate) fn announced(bytes: &[u8]) -> Result<Option<(u8, usize)>, Error> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [tag, a, b, c, d] = *header;
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=i32::MAX as u32).contains(&length) {
        return Err(Error::protocol(format!("message {} announces length {length}", tag_text(tag))));
    }
    Ok(Some((tag, length as usize - 4)))
}

/// A tag for people.
pub(crate) fn tag_text(tag: u8) -> String {
    if tag.is_ascii_graphic() { format!("`{}`", tag as char) } else { format!("0x{tag:02x}") }
}

impl<'a> Message<'a> {
    /// The body's fields.
    pub(crate) fn fields(&self) -> Fields<'a> {
        Fields::new(self.body)
    }

    /// ParameterStatus: name and value.
    pub(crate) fn parameter_status(&self) -> Result<(&'a str, &'a str), Error> {
        let mut fields = self.fields();
        let mut text = || std::str::from_utf8(fields.cstr().ok()?).ok();
        match (text(), text()) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(Error::protocol("ParameterStatus is not two texts")),
        }
    }

    /// BackendKeyData: the process id (the secret key is of no use here: nothing is ever cancelled).
    pub(crate) fn backend_key(&self) -> Result<i32, Error> {
        self.fields().i32().map_err(|Truncated| Error::protocol("BackendKeyData is too short"))
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Fields { rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Truncated> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Text up to a NUL, which is taken too.
    pub(crate) fn cstr(&mut self) -> Result<&'a [u8], Truncated> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Truncated)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_cannot_be_is_an_error() {
        assert!(announced(b"Z\0\0\0").expect("incomplete").is_none());
        assert_eq!(announced(b"Z\0\0\0\x05I").expect("legal"), Some((b'Z', 1)));
        for bytes in [b"Z\0\0\0\x03".as_slice(), b"Z\xff\xff\xff\xff", b"\0\0\0\0\0"] {
            assert!(announced(bytes).is_err());
        }
    }

    #[test]
    fn fields_end_with_the_body() {
        let mut fields = Fields::new(b"\x01\0\x02ab\0c");
        assert_eq!((fields.u8().ok(), fields.u16().ok()), (Some(1), Some(2)));
        assert_eq!(fields.cstr().ok(), Some(b"ab".as_slice()));
        assert!(fields.cstr().is_err() && fields.i32().is_err() && fields.bytes(2).is_err());
        assert_eq!(fields.rest(), b"c");
    }
}
