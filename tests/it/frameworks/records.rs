//! Records of two relays of the same rows, matched by their id and compared field by field.

use relay_tests::consumer::Rec;
use std::collections::BTreeMap;

/// What of a record must be equal, headers without those that only one side knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// The key's bytes.
    pub(crate) key: Option<Vec<u8>>,
    /// The value's bytes.
    pub(crate) value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Where the key led to.
    pub(crate) partition: i32,
}

/// The shapes of records by the header that names the event; a second record of one name is a failure.
#[track_caller]
pub(crate) fn by_header(records: &[Rec], name: &str, is_own: impl Fn(&str) -> bool) -> BTreeMap<String, Shape> {
    let mut shapes = BTreeMap::new();
    for record in records {
        let id = record.header(name).unwrap_or_else(|| panic!("no header {name}: {record:?}")).to_owned();
        let headers = record.headers.iter().filter(|(name, _)| !is_own(name)).cloned().collect();
        let (key, value, partition) = (record.key.clone(), record.value.clone(), record.partition);
        let twice = shapes.insert(id, Shape { key, value, headers, partition });
        assert_eq!(twice, None, "the event of {record:?} came twice");
    }
    shapes
}

/// Fails with the first event that differs, in words that show the bytes.
#[track_caller]
pub(crate) fn assert_equal(what: &str, theirs: &BTreeMap<String, Shape>, ours: &BTreeMap<String, Shape>) {
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{what}: the same events");
    for (id, their) in theirs {
        let our = &ours[id];
        assert_eq!(shown(their), shown(our), "{what}: event {id}, theirs on the left");
        assert_eq!(their, our, "{what}: event {id}");
    }
}

fn shown(shape: &Shape) -> String {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        None => "null".to_owned(),
        Some(bytes) => format!("`{}`", bytes.escape_ascii()),
    };
    let headers: Vec<String> = shape.headers.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    format!(
        "key {} value {} headers [{}] partition {}",
        text(&shape.key),
        text(&shape.value),
        headers.join(", "),
        shape.partition
    )
}
