//! Geometric types and PostGIS: coordinates as floats, and as little-endian well-known binary.

use super::form::Shape;
use super::number::write_integer;
use super::{Refusal, Written, bits, float};
use crate::binary;

const NOT_GEOMETRIC: Refusal = "is not of its geometric type";

/// WKB's codes.
const POINT: u32 = 1;
const LINE_STRING: u32 = 2;
const POLYGON: u32 = 3;

/// `(1,1)`: a Point.
pub(super) fn write_point(text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut numbers = Numbers { rest: text };
    write_point_of(numbers.float()?, numbers.float()?, out);
    numbers.end()
}

fn write_point_of(x: f64, y: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"x\":");
    float::write_number(x, out);
    out.extend_from_slice(b",\"y\":");
    float::write_number(y, out);
    out.extend_from_slice(b",\"wkb\":\"");
    let mut coded = Coder::begin(POINT, out);
    coded.point(x, y);
    coded.end();
    out.extend_from_slice(b"\",\"srid\":null}");
}

/// `<(1,1),2>`: a Circle.
pub(super) fn write_circle(text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut numbers = Numbers { rest: text };
    out.extend_from_slice(b"{\"center\":");
    write_point_of(numbers.float()?, numbers.float()?, out);
    out.extend_from_slice(b",\"radius\":");
    float::write_number(numbers.float()?, out);
    out.push(b'}');
    numbers.end()
}

/// `{1,2,3}`: a Line.
pub(super) fn write_line(text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut numbers = Numbers { rest: text };
    for name in [&b"{\"a\":"[..], b",\"b\":", b",\"c\":"] {
        out.extend_from_slice(name);
        float::write_number(numbers.float()?, out);
    }
    out.push(b'}');
    numbers.end()
}

/// box, lseg, path and polygon: a Geometry.
pub(super) fn write_shape(text: &[u8], shape: Shape, out: &mut Vec<u8>) -> Written {
    out.extend_from_slice(b"{\"wkb\":\"");
    let mut numbers = Numbers { rest: text };
    match shape {
        Shape::Box => {
            let [x1, y1, x2, y2] = [numbers.float()?, numbers.float()?, numbers.float()?, numbers.float()?];
            numbers.end()?;
            let mut coded = Coder::begin(POLYGON, out);
            coded.count(1);
            coded.count(5);
            for (x, y) in [(x1, y1), (x1, y2), (x2, y2), (x2, y1), (x1, y1)] {
                coded.point(x, y);
            }
            coded.end();
        }
        Shape::Segment | Shape::Path => {
            let count = numbers.count_points()?;
            let mut coded = Coder::begin(LINE_STRING, out);
            coded.count(count);
            for _ in 0..count {
                coded.point(numbers.float()?, numbers.float()?);
            }
            coded.end();
        }
        Shape::Polygon => {
            let count = numbers.count_points()?;
            let is_closed = numbers.is_closed(count)?;
            let mut coded = Coder::begin(POLYGON, out);
            coded.count(1);
            // A ring that is closed stays as it is.
            coded.count(if is_closed { count } else { count + 1 });
            let first = (numbers.float()?, numbers.float()?);
            coded.point(first.0, first.1);
            for _ in 1..count {
                coded.point(numbers.float()?, numbers.float()?);
            }
            if !is_closed {
                coded.point(first.0, first.1);
            }
            coded.end();
        }
    }
    out.extend_from_slice(match (shape, text.first()) {
        (Shape::Box, _) => br#"","srid":null,"extensions":{"type":"box"}}"#,
        (Shape::Segment, _) => br#"","srid":null,"extensions":{"type":"lseg"}}"#,
        (Shape::Polygon, _) => br#"","srid":null,"extensions":{"type":"polygon"}}"#,
        (Shape::Path, Some(b'[')) => br#"","srid":null,"extensions":{"type":"path","closed":"false"}}"#,
        (Shape::Path, _) => br#"","srid":null,"extensions":{"type":"path","closed":"true"}}"#,
    });
    Ok(())
}

/// PostGIS: hex EWKB; the SRID stands in it. A geography has no extensions.
pub(super) fn write_postgis(text: &[u8], has_extensions: bool, out: &mut Vec<u8>) -> Written {
    const NOT_EWKB: Refusal = "is not EWKB in hex form";
    let mut head = [0; 9];
    let is_long = text.len() >= 18;
    let read = text.get(..if is_long { 18 } else { 10 }).ok_or(NOT_EWKB)?;
    if !binary::decode_hex_into(read, head.get_mut(..read.len() / 2).unwrap_or_default()) {
        return Err(NOT_EWKB);
    }
    let [order, t1, t2, t3, t4, s1, s2, s3, s4] = head;
    let number = |bytes| if order == 1 { i32::from_le_bytes(bytes) } else { i32::from_be_bytes(bytes) };
    let has_srid = number([t1, t2, t3, t4]) & 0x2000_0000 != 0;
    out.extend_from_slice(b"{\"wkb\":");
    bits::write_hex_as_base64(text, out)?;
    out.extend_from_slice(b",\"srid\":");
    if has_srid && is_long {
        write_integer(i64::from(number([s1, s2, s3, s4])), out);
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(if has_extensions { b",\"extensions\":null}" } else { b"}" });
    Ok(())
}

/// The numbers of a text, whatever brackets and commas stand between them.
#[derive(Clone, Copy, Debug)]
struct Numbers<'a> {
    rest: &'a [u8],
}

/// Writes well-known binary as base64, number by number.
struct Coder<'a> {
    out: &'a mut Vec<u8>,
    group: [u8; 3],
    used: usize,
}

fn is_between(byte: u8) -> bool {
    matches!(byte, b'(' | b')' | b'[' | b']' | b'<' | b'>' | b'{' | b'}' | b',')
}

// === impl Numbers ===

impl Numbers<'_> {
    fn float(&mut self) -> Result<f64, Refusal> {
        let start = self.rest.iter().position(|&byte| !is_between(byte)).ok_or(NOT_GEOMETRIC)?;
        let rest = self.rest.get(start..).unwrap_or_default();
        let (number, rest) = rest.split_at(rest.iter().position(|&byte| is_between(byte)).unwrap_or(rest.len()));
        self.rest = rest;
        float::parse_f64(number)
    }

    fn end(self) -> Written {
        if self.rest.iter().all(|&byte| is_between(byte)) { Ok(()) } else { Err(NOT_GEOMETRIC) }
    }

    /// Whether the last of so many points is the first one again.
    fn is_closed(self, count: u32) -> Result<bool, Refusal> {
        let mut numbers = self;
        let first = (numbers.float()?, numbers.float()?);
        let mut last = first;
        for _ in 1..count {
            last = (numbers.float()?, numbers.float()?);
        }
        Ok(first == last)
    }

    /// Pairs of numbers; one at least, and nothing else.
    fn count_points(self) -> Result<u32, Refusal> {
        let (mut numbers, mut count) = (self, 0u32);
        while numbers.end().is_err() {
            numbers.float()?;
            count += 1;
        }
        if count == 0 || !count.is_multiple_of(2) { Err(NOT_GEOMETRIC) } else { Ok(count / 2) }
    }
}

// === impl Coder ===

impl<'a> Coder<'a> {
    fn begin(kind: u32, out: &'a mut Vec<u8>) -> Self {
        let mut coder = Self { out, group: [0; 3], used: 0 };
        coder.bytes(&[1]);
        coder.count(kind);
        coder
    }

    fn count(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    fn point(&mut self, x: f64, y: f64) {
        self.bytes(&x.to_le_bytes());
        self.bytes(&y.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.group.get_mut(self.used) {
                *place = byte;
            }
            self.used += 1;
            if self.used == 3 {
                binary::write_base64(&self.group, self.out);
                self.used = 0;
            }
        }
    }

    fn end(self) {
        binary::write_base64(self.group.get(..self.used).unwrap_or_default(), self.out);
    }
}
