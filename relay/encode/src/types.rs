//! A stand-in for the value writer: integers, booleans and text.

use crate::error::RouteError;
use crate::json;
use crate::settings::FormatSettings;
use relay_core::catalog::Catalog;
use relay_core::{Oid, Poison, PoisonReason};

#[derive(Clone, Debug)]
pub(crate) struct Modes {
    unavailable: Box<str>,
}

impl Modes {
    pub(crate) fn new(format: &FormatSettings) -> Result<Self, RouteError> {
        Ok(Self { unavailable: format.unavailable_value.as_str().into() })
    }
}

#[derive(Debug)]
pub(crate) struct ColumnType {
    oid: u32,
    unavailable: Box<str>,
}

#[derive(Debug)]
pub(crate) struct SchemaField<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) is_optional: bool,
    pub(crate) default: Option<&'a [u8]>,
    pub(crate) mask: Option<(&'a str, &'a str)>,
}

impl ColumnType {
    pub(crate) fn new(type_oid: Oid, _modifier: i32, _type_name: Option<&str>, _catalog: &Catalog, modes: &Modes) -> Self {
        Self { oid: type_oid.0, unavailable: modes.unavailable.clone() }
    }

    pub(crate) fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        match self.oid {
            16 => out.extend_from_slice(if text == b"t" { b"true" } else { b"false" }),
            20 | 21 | 23 => {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
                if number.is_none() {
                    return Err(Poison::new(PoisonReason::Encode, "is not an integer"));
                }
                out.extend_from_slice(text);
            }
            _ => match simdutf8::basic::from_utf8(text) {
                Ok(text) => json::write_string(text, out),
                Err(_) => return Err(Poison::new(PoisonReason::Utf8, "is not UTF-8")),
            },
        }
        Ok(())
    }

    pub(crate) fn write_unavailable(&self, out: &mut Vec<u8>) -> bool {
        if matches!(self.oid, 16 | 20 | 21 | 23) {
            out.extend_from_slice(b"null");
            return false;
        }
        json::write_string(&self.unavailable, out);
        true
    }

    pub(crate) fn write_schema(&self, field: &SchemaField<'_>, out: &mut Vec<u8>) {
        let name = match self.oid {
            16 => "boolean",
            20 => "int64",
            21 => "int16",
            23 => "int32",
            _ => "string",
        };
        out.extend_from_slice(format!("{{\"type\":\"{name}\",\"optional\":{}", field.is_optional).as_bytes());
        if let Some((name, value)) = field.mask {
            out.extend_from_slice(format!(",\"parameters\":{{\"{name}\":\"{value}\"}}").as_bytes());
        }
        if let Some(default) = field.default {
            out.extend_from_slice(b",\"default\":");
            out.extend_from_slice(default);
        }
        if let Some(name) = field.name {
            out.extend_from_slice(b",\"field\":");
            json::write_string(name, out);
        }
        out.push(b'}');
    }

    pub(crate) fn is_unknown(&self) -> bool {
        false
    }

    pub(crate) fn is_omitted(&self) -> bool {
        false
    }

    pub(crate) fn write_fallback(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if matches!(self.oid, 20 | 21 | 23) { b"0" } else { b"\"\"" });
    }

    pub(crate) fn default_json(&self, expression: &str) -> Option<Box<[u8]>> {
        expression.starts_with("nextval").then(|| b"0".as_slice().into())
    }

    pub(crate) fn write_connect_text(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        self.write(text, out)
    }
}
