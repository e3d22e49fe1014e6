//! Which beginnings of prompts were seen lately: a prompt that begins as one of them does reads less. As real caches do, it keeps blocks
//! of tokens, each known by all that comes before it, and forgets those that were not used for longest.

use std::collections::{BTreeMap, HashMap};

use crate::prompt::BYTES_PER_TOKEN;

/// Tokens of a block.
pub(crate) const BLOCK_TOKENS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    max_blocks: usize,
    /// When each block was last used, by the hash of everything up to its end.
    used: HashMap<u64, u64>,
    /// The same by that time.
    oldest: BTreeMap<u64, u64>,
    num_uses: u64,
}

impl Prefixes {
    /// One that remembers so many tokens.
    pub(crate) fn new(max_tokens: usize) -> Self {
        Self { max_blocks: max_tokens / BLOCK_TOKENS, ..Self::default() }
    }

    /// How many tokens at the beginning of this prompt are remembered; from now on all of it is.
    pub(crate) fn read(&mut self, prompt: &str) -> usize {
        let blocks = prompt.as_bytes().chunks_exact(BLOCK_TOKENS * BYTES_PER_TOKEN).take(self.max_blocks);
        let hashes: Vec<u64> = blocks
            .scan(HASH_START, |hash, block| {
                *hash = hash_on(*hash, block);
                Some(*hash)
            })
            .collect();
        let num_known = hashes.iter().take_while(|hash| self.used.contains_key(hash)).count();
        // The end first: what comes later in a prompt is of less use, and is forgotten first.
        for &hash in hashes.iter().rev() {
            self.use_block(hash);
        }
        num_known * BLOCK_TOKENS
    }

    fn use_block(&mut self, hash: u64) {
        self.num_uses += 1;
        if let Some(before) = self.used.insert(hash, self.num_uses) {
            self.oldest.remove(&before);
        }
        self.oldest.insert(self.num_uses, hash);
        if self.used.len() > self.max_blocks
            && let Some((_, forgotten)) = self.oldest.pop_first()
        {
            self.used.remove(&forgotten);
        }
    }
}

/// The hash of nothing.
pub(crate) const HASH_START: u64 = 0xCBF2_9CE4_8422_2325;

/// The hash of what `hash` is of and these bytes (FNV-1a): the same in every build.
pub(crate) fn hash_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = BLOCK_TOKENS * BYTES_PER_TOKEN;

    #[test]
    fn a_prompt_reads_what_no_other_began_with() {
        let mut prefixes = Prefixes::new(1024);
        let system = "s".repeat(3 * BLOCK_BYTES);
        assert_eq!(prefixes.read(&system), 0);
        assert_eq!(prefixes.read(&format!("{system}{}", "a".repeat(BLOCK_BYTES))), 48);
        assert_eq!(prefixes.read(&format!("{system}{}", "a".repeat(BLOCK_BYTES + 3))), 64);
        assert_eq!(prefixes.read(&format!("x{system}")), 0, "it is the beginning that counts");
        assert_eq!(prefixes.read("short"), 0);
        assert_eq!(Prefixes::new(0).read(&system), 0);
    }

    #[test]
    fn what_was_not_used_for_longest_is_forgotten_from_its_end() {
        let mut prefixes = Prefixes::new(4 * BLOCK_TOKENS);
        let prompt = |letter: &str, blocks: usize| letter.repeat(blocks * BLOCK_BYTES);
        prefixes.read(&prompt("a", 2));
        prefixes.read(&prompt("b", 2));
        prefixes.read(&prompt("a", 2));
        prefixes.read(&prompt("c", 1));
        assert_eq!(prefixes.read(&prompt("b", 2)), BLOCK_TOKENS);
        prefixes.read(&prompt("d", 100));
        assert_eq!(prefixes.used.len(), 4);
        assert_eq!(prefixes.oldest.len(), 4);
    }
}
