//! The texts that answers are drawn from: sentences in a random order, word by word. A token is a word with the space before it.

use std::sync::{Arc, LazyLock};

use crate::curves::draw;

const SENTENCES: &str = "\
The mill stands where the river bends, below the old bridge.
In spring the water comes down from the hills and the wheel turns day and night.
Two stones lie one upon the other, and between them the grain becomes flour.
Whoever brings a sack waits in the yard until his turn has come.
The miller listens to the stones, for their sound tells him how fine they grind.
When the wheel turns too fast, he lowers the gate and lets less water through.
When it turns too slowly, he lifts the gate again and looks up at the clouds.
A child counts the sacks and writes their number on the door with chalk.
At noon the baker's cart rolls across the bridge, and everybody makes way.
Bread that was flour in the morning stands on the tables in the evening.
On some days a storm breaks the dam, and all the village comes to mend it.
They carry stones and clay, and before night the water rises once more.
Nobody remembers who built the mill, but many can tell how it was repaired.
There are books about rivers, and books about bread, and few about waiting.
Yet most of what happens here is waiting, and it is done with patience.
In winter the wheel is still, and the ice on it shines like glass.
Then the miller sharpens his stones and thinks about the year to come.";

/// The corpus, cut once.
static CORPUS: LazyLock<Vec<Vec<Arc<str>>>> = LazyLock::new(|| {
    let token = |word: &str| Arc::from(format!(" {word}"));
    SENTENCES.lines().map(|sentence| sentence.split(' ').map(token).collect()).collect()
});

/// Writes one answer.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    draws: u64,
    sentence: &'static [Arc<str>],
    has_begun: bool,
}

impl Writer {
    /// The writer of that seed's text.
    pub(crate) fn new(seed: u64) -> Self {
        Self { draws: seed, sentence: &[], has_begun: false }
    }

    /// A number for something else than the text.
    pub(crate) fn draw(&mut self) -> u64 {
        draw(&mut self.draws)
    }

    /// The next token.
    pub(crate) fn next(&mut self) -> Arc<str> {
        if self.sentence.is_empty() {
            let corpus = CORPUS.as_slice();
            let index = draw(&mut self.draws) % corpus.len() as u64;
            self.sentence = usize::try_from(index).map_or(&[], |index| corpus[index].as_slice());
        }
        let Some((token, rest)) = self.sentence.split_first() else { return " …".into() };
        self.sentence = rest;
        // The first token has no space before it.
        if std::mem::replace(&mut self.has_begun, true) { token.clone() } else { token.trim_start().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u64) -> String {
        let mut writer = Writer::new(seed);
        (0..60).map(|_| writer.next().to_string()).collect()
    }

    #[test]
    fn a_seed_gives_its_text_of_whole_sentences() {
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        let first = text(3);
        assert!(first.starts_with(char::is_uppercase) && !first.contains("  "), "{first}");
        assert!(first.split_inclusive(". ").take(2).all(|sentence| SENTENCES.contains(sentence.trim_end())));
    }
}
