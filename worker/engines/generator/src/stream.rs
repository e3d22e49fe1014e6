//! From tokens to text, piece by piece. Pure: the tokenizer is passed in as a function.
//!
//! Two things hold a piece back: bytes of a character that is not complete yet, and text that may be the beginning of
//! a stop string.

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

/// Looks for stop strings in text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scan {
    /// This text is certain; go on.
    Go(String),
    /// This text comes before a stop string; nothing after it counts.
    Stop(String),
}

impl StopScanner {
    /// Looks for these texts, none of which is empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &str) -> Scan {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Scan::Stop(std::mem::take(&mut self.held));
        }
        let kept = self.held.split_off(self.held.len() - self.open_len());
        Scan::Go(std::mem::replace(&mut self.held, kept))
    }

    /// The text that was held back, when no more comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end that are the beginning of a stop string.
    fn open_len(&self) -> usize {
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0).min(self.held.len());
        (1..=longest)
            .rev()
            .find(|&len| {
                let start = self.held.len() - len;
                self.held.is_char_boundary(start)
                    && self.stops.iter().any(|stop| stop.len() > len && stop.starts_with(&self.held[start..]))
            })
            .unwrap_or(0)
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

    #[test]
    fn stop_strings_are_found_across_pieces_and_never_shown() {
        let table: [(&[&str], &[&str], &str, bool); 6] = [
            (&["END"], &["abc E", "N", "D def"], "abc ", true),
            (&["END"], &["abc E", "N", "T"], "abc ENT", false),
            (&["\n\n", "Q:"], &["a\n", "Q", ": x"], "a\n", true),
            (&["aab"], &["aa", "aab"], "aa", true),
            (&["é!"], &["xé", "?é"], "xé?é", false),
            (&[], &["a", "b"], "ab", false),
        ];
        for (stops, pieces, expected, stopped) in table {
            let mut scanner = StopScanner::new(stops.iter().map(|&stop| stop.to_owned()).collect());
            let mut text = String::new();
            let mut seen = false;
            for piece in pieces {
                match scanner.push(piece) {
                    Scan::Go(part) => text.push_str(&part),
                    Scan::Stop(part) => {
                        text.push_str(&part);
                        seen = true;
                        break;
                    }
                }
                assert!(expected.starts_with(&text), "{text:?} was shown too early");
            }
            text.push_str(&scanner.finish());
            assert_eq!((text.as_str(), seen), (expected, stopped), "{stops:?} in {pieces:?}");
        }
    }
}
