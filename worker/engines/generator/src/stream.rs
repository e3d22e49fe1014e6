//! From tokens to text, piece by piece. Pure: the tokenizer is passed in as a function. Bytes of a character that is not complete yet
//! are held back.

/// Turns token ids into text as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detokenizer {
    ids: Vec<u32>,
    /// Where the window begins that gives the decoder its context.
    context: usize,
    /// Ids before this are text already.
    done: usize,
}

/// A character takes at most four bytes and so at most four tokens: what is broken after that stays broken.
const MAX_TOKENS_OF_CHARACTER: usize = 4;

impl Detokenizer {
    /// Takes the next token; returns the text that became complete by it.
    pub(crate) fn push(&mut self, id: u32, decode: impl Fn(&[u32]) -> String) -> String {
        self.ids.push(id);
        let piece = self.rest(decode);
        let waiting = self.ids.len() - self.done;
        if piece.is_empty() || (piece.ends_with('\u{FFFD}') && waiting <= MAX_TOKENS_OF_CHARACTER) {
            return String::new();
        }
        self.context = self.done;
        self.done = self.ids.len();
        piece
    }

    /// The text of what was held back.
    pub(crate) fn finish(&mut self, decode: impl Fn(&[u32]) -> String) -> String {
        let piece = self.rest(decode);
        self.context = self.ids.len();
        self.done = self.ids.len();
        piece
    }

    fn rest(&self, decode: impl Fn(&[u32]) -> String) -> String {
        let known = decode(&self.ids[self.context..self.done]);
        let all = decode(&self.ids[self.context..]);
        all.get(known.len()..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each id is one byte.
    fn bytes(ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().map(|&id| u8::try_from(id).unwrap()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn only_complete_characters_come_out() {
        let text = "aé€😀b";
        let mut detokenizer = Detokenizer::default();
        let pieces: Vec<String> = text.bytes().map(|byte| detokenizer.push(byte.into(), bytes)).collect();
        assert_eq!(pieces.concat(), text);
        assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).count(), 5);
        assert_eq!(detokenizer.finish(bytes), "");
    }

    #[test]
    fn a_broken_character_comes_out_in_the_end_and_holds_nothing_up_for_long() {
        let mut detokenizer = Detokenizer::default();
        assert_eq!(detokenizer.push(0xE2, bytes), "");
        assert_eq!(detokenizer.finish(bytes), "\u{FFFD}");
        let mut detokenizer = Detokenizer::default();
        let pieces: Vec<String> = (0..12).map(|_| detokenizer.push(0xFF, bytes)).collect();
        assert!(pieces[4].starts_with('\u{FFFD}') && pieces[9].starts_with('\u{FFFD}'));
    }
}
