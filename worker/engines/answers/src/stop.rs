//! Looking for stop strings in text that comes in pieces. Text that may be the beginning of one is held back.

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

    /// Whether it looks for nothing: then every piece is certain.
    pub(crate) fn is_idle(&self) -> bool {
        self.stops.is_empty()
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
