//! Turns a Produce request into the broker's refusal of it.

/// Length, api_key, api_version, correlation_id: what each request begins with.
const HEAD: usize = 4 + 2 + 2 + 4;

/// The parts of a request that are not read yet.
struct Rest<'a>(&'a [u8]);

/// The response that gives each partition of a whole Produce request, version 9 to 12, the same error code.
///
/// # Panics
/// When it is of another version, or none.
pub(crate) fn refusal(request: &[u8], code: i16) -> Vec<u8> {
    let version = i16::from_be_bytes([request[6], request[7]]);
    assert!((9..=12).contains(&version), "Produce version {version} is not known to the proxy");
    let mut rest = Rest(&request[HEAD..]);
    let client_id = rest.short();
    rest.take(usize::try_from(client_id).unwrap_or(0));
    rest.tags();
    rest.compact();
    // acks, timeout_ms
    rest.take(2 + 4);
    let mut answer = [&request[8..HEAD], &[0][..]].concat();
    let topics = rest.length();
    write_varint(&mut answer, topics + 1);
    for _ in 0..topics {
        let name = rest.compact();
        write_varint(&mut answer, name.len() + 1);
        answer.extend_from_slice(name);
        let partitions = rest.length();
        write_varint(&mut answer, partitions + 1);
        for _ in 0..partitions {
            answer.extend_from_slice(rest.take(4));
            rest.compact();
            rest.tags();
            answer.extend_from_slice(&code.to_be_bytes());
            // base_offset, log_append_time_ms, log_start_offset: none of them known.
            answer.extend_from_slice(&[0xff; 24]);
            // No record_errors, no error_message, no tags.
            answer.extend_from_slice(&[1, 0, 0]);
        }
        rest.tags();
        answer.push(0);
    }
    // throttle_time_ms, tags
    answer.extend_from_slice(&[0; 5]);
    let length = u32::try_from(answer.len()).expect("a short answer");
    [&length.to_be_bytes()[..], &answer].concat()
}

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.take(1)[0]);
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    /// Of a compact array or text: 0 stands for none, n + 1 for n.
    fn length(&mut self) -> usize {
        self.varint().saturating_sub(1)
    }

    fn compact(&mut self) -> &'a [u8] {
        let n = self.length();
        self.take(n)
    }

    fn tags(&mut self) {
        for _ in 0..self.varint() {
            self.varint();
            let n = self.varint();
            self.take(n);
        }
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::refusal;

    /// Written by hand from Kafka's message definitions.
    #[test]
    fn every_partition_of_a_request_is_refused() {
        let body = [
            // Produce, version 10, correlation 7, client "c", no tags
            &[0, 0, 0, 10, 0, 0, 0, 7, 0, 1, b'c', 0][..],
            // transactional_id "tx", acks -1, timeout 1000, one topic "t"
            &[3, b't', b'x', 0xff, 0xff, 0, 0, 3, 0xe8, 2, 2, b't'],
            // two partitions: 4 with 3 bytes of records, 130 with none
            &[3, 0, 0, 0, 4, 4, 1, 2, 3, 0, 0, 0, 0, 130, 1, 0, 0, 0],
        ]
        .concat();
        let request = [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat();
        let partition = |index: u8| [&[0, 0, 0, index, 0, 6][..], &[0xff; 24], &[1, 0, 0]].concat();
        let expected = [&[0, 0, 0, 7, 0, 2, 2, b't', 3][..], &partition(4), &partition(130), &[0, 0, 0, 0, 0, 0]].concat();
        let answer = refusal(&request, 6);
        assert_eq!(answer[..4], u32::try_from(expected.len()).unwrap().to_be_bytes());
        assert_eq!(answer[4..], expected);
    }
}
