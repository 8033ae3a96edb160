//! Turns a topic that relay has written into its records in one block of memory, to be sent again by a bare producer.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use relay_tests::{Isolation, Reader, Rec, secs};

/// Records in the order of their offsets, so that the partitions alternate as they did.
#[derive(Debug, Default)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    names: Vec<String>,
    headers: Vec<(usize, Option<Span>)>,
    list: Vec<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    offset: i64,
    partition: i32,
    key: Option<Span>,
    value: Option<Span>,
    headers: Span,
    timestamp_ms: Option<i64>,
}

// === impl Records ===

impl Records {
    /// The first `n` records of a topic.
    pub(crate) fn of(brokers: &str, topic: &str, n: u64) -> Result<Records, String> {
        let tail = Reader::new(brokers).tail(&[topic], Isolation::Uncommitted);
        let mut records = Records::default();
        while (records.list.len() as u64) < n {
            let got = records.list.len();
            let record = tail.next(secs(15)).ok_or_else(|| format!("topic {topic} holds {got} records, not {n}"))?;
            records.add(&record);
        }
        records.list.sort_by_key(|record| (record.offset, record.partition));
        Ok(records)
    }

    /// Records that look like relay's, for a broker that is to be warmed up.
    pub(crate) fn synthetic(n: u64) -> Records {
        let mut records = Records::default();
        for i in 0..n {
            let header = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
            let headers = vec![
                header("id", format!("01890a5d-ac96-774b-bcce-{i:012x}")),
                header("type", "order.placed".to_owned()),
                header("relay-pos", format!("16B374D848.{i}")),
            ];
            records.add(&Rec {
                topic: String::new(),
                partition: 0,
                offset: i64::try_from(i).unwrap_or(i64::MAX),
                key: Some(format!("order-{:05}", i * 7919 % 100_000).into_bytes()),
                value: Some(format!("{{\"id\": {i:010}, \"note\": \"{}\"}}", "left at the door ".repeat(17)).into_bytes()),
                headers,
                timestamp_ms: None,
            });
        }
        records
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The names of the first record's headers, to be told with the figures.
    pub(crate) fn header_names(&self) -> Vec<&str> {
        let Some(first) = self.list.first() else { return Vec::new() };
        self.headers[first.headers.start..first.headers.end].iter().map(|(name, _)| self.names[*name].as_str()).collect()
    }

    /// A record to be sent to a topic.
    pub(crate) fn record<'a>(&'a self, i: usize, topic: &'a str) -> BaseRecord<'a, [u8], [u8], usize> {
        let record = &self.list[i];
        let mut built = BaseRecord::with_opaque_to(topic, i);
        if let Some(span) = record.key {
            built = built.key(self.slice(span));
        }
        if let Some(span) = record.value {
            built = built.payload(self.slice(span));
        }
        if let Some(ms) = record.timestamp_ms {
            built = built.timestamp(ms);
        }
        let headers = &self.headers[record.headers.start..record.headers.end];
        let built_headers = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |built, (name, value)| {
            built.insert(Header { key: &self.names[*name], value: value.map(|span| self.slice(span)) })
        });
        built.headers(built_headers)
    }

    fn add(&mut self, record: &Rec) {
        let start = self.headers.len();
        for (name, value) in &record.headers {
            let name = self.name(name);
            let value = value.as_deref().map(|value| self.keep(value));
            self.headers.push((name, value));
        }
        let headers = Span { start, end: self.headers.len() };
        let key = record.key.as_deref().map(|key| self.keep(key));
        let value = record.value.as_deref().map(|value| self.keep(value));
        let Rec { offset, partition, timestamp_ms, .. } = *record;
        self.list.push(Record { offset, partition, key, value, headers, timestamp_ms });
    }

    fn name(&mut self, name: &str) -> usize {
        if let Some(at) = self.names.iter().position(|known| known == name) {
            return at;
        }
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span { start, end: self.bytes.len() }
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }
}
