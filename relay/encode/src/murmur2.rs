//! A record key becomes its partition, as the Java client and librdkafka's `murmur2_random` place it.

/// The 32-bit murmur2 of Kafka's Java client, seed 0x9747b28c.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for &word in words {
        let mut k = u32::from_le_bytes(word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of a record with that key in a topic of `partitions`; `None` when the topic has none.
#[must_use]
pub fn partition(key: &[u8], partitions: u32) -> Option<u32> {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_event_format() {
        let cases: [(&str, i32, [u32; 4]); 11] = [
            ("21", -973_932_308, [0, 0, 0, 40]),
            ("foobar", -790_332_482, [0, 0, 6, 16]),
            ("a-little-bit-long-string", -985_981_536, [2, 2, 8, 12]),
            ("a-little-bit-longer-string", -1_486_304_829, [2, 5, 11, 19]),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971, [2, 5, 5, 27]),
            ("abc", 479_470_107, [0, 3, 3, 7]),
            ("", 275_646_681, [0, 3, 9, 31]),
            ("1", -1_993_445_489, [0, 3, 3, 9]),
            ("order-1", 1_221_710_326, [1, 4, 10, 26]),
            (r#"{"id":1}"#, -56_768_732, [0, 0, 0, 16]),
            ("äöü", -2_070_914_556, [2, 2, 8, 42]),
        ];
        for (key, signed, places) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, signed, "{key}");
            assert_eq!([3, 6, 12, 50].map(|n| partition(key.as_bytes(), n)), places.map(Some), "{key}");
        }
        assert_eq!(partition(b"x", 0), None);
    }
}
