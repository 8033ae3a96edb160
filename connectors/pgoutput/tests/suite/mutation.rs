//! Damages a message in the ways that find mistakes in a parser, from a seed.

/// Marsaglia's xorshift64*.
pub(crate) struct Xorshift(u64);

// === impl Xorshift ===

impl Xorshift {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, or 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) as usize).checked_rem(limit).unwrap_or(0)
    }

    /// Changes `message` in one to four places; `other` is a message to cross it with.
    pub(crate) fn damage(&mut self, message: &mut Vec<u8>, other: &[u8]) {
        const TELLING: &[u8] = b"BCORYIUDTMSEcAbPKrpNntub\x00\x01\x02\x7f\x80\xff";
        for _ in 0..=self.below(4) {
            let at = self.below(message.len());
            match (self.below(8), message.get_mut(at)) {
                (0, Some(byte)) => *byte ^= 1 << self.below(8),
                (1, Some(byte)) => *byte = TELLING[self.below(TELLING.len())],
                (2, Some(byte)) => *byte = self.next() as u8,
                (3, Some(_)) => message.truncate(at),
                (4, Some(_)) => drop(message.remove(at)),
                (5, Some(_)) => {
                    let graft = other.get(self.below(other.len())..).unwrap_or(&[]);
                    message.splice(at..at, graft.iter().copied());
                }
                (6, Some(_)) => {
                    // A length or count, stretched or shrunk by little.
                    let number = (self.below(9) as u32).wrapping_sub(4).to_be_bytes();
                    message.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = byte.wrapping_add(new));
                }
                _ => message.insert(at, TELLING[self.below(TELLING.len())]),
            }
        }
        message.truncate(4_096);
    }
}
