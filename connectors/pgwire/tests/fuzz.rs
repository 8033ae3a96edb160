//! The fuzz target's body on the committed corpus and two seconds of mutations of it.

use std::time::{Duration, Instant};

/// xorshift64*: a stream of numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    match numbers.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, numbers.below(256) as u8),
        2 => bytes.extend_from_slice(&others[numbers.below(others.len())]),
        3 if at < bytes.len() => drop(bytes.remove(at)),
        // Lengths are what a parser trips over.
        4 if at + 4 <= bytes.len() => {
            let length = [0_u32, 3, 4, 5, 255, 65_536, i32::MAX as u32, u32::MAX][numbers.below(8)];
            bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
    }
    bytes.truncate(100_000);
}

#[test]
fn two_seconds_of_mutations() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/messages");
    let seeds: Vec<Vec<u8>> =
        std::fs::read_dir(corpus).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() >= 8);
    for seed in &seeds {
        for end in 0..=seed.len() {
            relay_pgwire::fuzz_body(&seed[..end]);
        }
    }
    let mut numbers = Numbers(0x5eed_0f9e);
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        for _ in 0..100 {
            let mut bytes = seeds[numbers.below(seeds.len())].clone();
            for _ in 0..=numbers.below(6) {
                mutate(&mut bytes, &seeds, &mut numbers);
            }
            relay_pgwire::fuzz_body(&bytes);
        }
    }
}
