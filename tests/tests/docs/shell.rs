//! Commands of shell scripts: enough of the grammar to find each command with its words. Variables and substitutions
//! stand for values that nobody knows here; the commands in a substitution are commands like others.

use std::iter::Peekable;
use std::str::Chars;

/// What a word has where a variable or a substitution stands.
const UNKNOWN: char = '1';

/// A command and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Line of its first word, from 0.
    pub(crate) line: usize,
    /// Program and arguments; assignments and redirections are left out.
    pub(crate) words: Vec<String>,
}

/// The commands of a script, in the order of their ends.
pub(crate) fn commands(script: &str) -> Vec<Command> {
    let mut splitter =
        Splitter { letters: script.chars().peekable(), line: 0, found: Vec::new(), heredocs: Vec::new() };
    splitter.list(None);
    splitter.found
}

struct Splitter<'a> {
    letters: Peekable<Chars<'a>>,
    line: usize,
    found: Vec<Command>,
    /// Ends of the documents that begin on the next line.
    heredocs: Vec<String>,
}

/// Words of the command being read.
#[derive(Default)]
struct Words {
    line: usize,
    words: Vec<String>,
    word: Option<String>,
    /// What the word being read is, when it is no argument.
    redirects: Option<Redirect>,
}

#[derive(Clone, Copy, PartialEq)]
enum Redirect {
    File,
    Document,
}

impl Splitter<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.next();
        self.line += usize::from(letter == Some('\n'));
        letter
    }

    /// Reads commands up to the end, or to the letter that closes a substitution.
    fn list(&mut self, end: Option<char>) {
        let mut words = Words::default();
        while let Some(letter) = self.next() {
            match letter {
                _ if Some(letter) == end => break,
                ' ' | '\t' => self.end_word(&mut words),
                '\n' | ';' | '&' | '|' | '(' | ')' => {
                    if letter == '&' && self.letters.peek() == Some(&'>') {
                        continue;
                    }
                    self.end_command(&mut words);
                    if letter == '\n' {
                        self.skip_documents();
                    }
                }
                '#' if words.word.is_none() => {
                    while self.letters.peek().is_some_and(|letter| *letter != '\n') {
                        self.next();
                    }
                }
                '>' | '<' => self.redirect(letter, &mut words),
                _ => self.in_word(letter, &mut words),
            }
        }
        self.end_command(&mut words);
    }

    fn in_word(&mut self, letter: char, words: &mut Words) {
        if words.words.is_empty() && words.word.is_none() {
            words.line = self.line;
        }
        let mut word = words.word.take();
        if letter == '\\' && self.letters.peek() == Some(&'\n') {
            self.next();
            words.word = word;
            return;
        }
        let text = word.get_or_insert_default();
        match letter {
            '\\' => text.extend(self.next()),
            '\'' => {
                while let Some(letter) = self.next().filter(|letter| *letter != '\'') {
                    text.push(letter);
                }
            }
            '"' => self.quoted(text),
            '$' => self.expansion(text),
            '`' => {
                self.list(Some('`'));
                text.push(UNKNOWN);
            }
            _ => text.push(letter),
        }
        words.word = word;
    }

    fn quoted(&mut self, text: &mut String) {
        while let Some(letter) = self.next().filter(|letter| *letter != '"') {
            match letter {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(letter) if "\"\\$`".contains(letter) => text.push(letter),
                    Some(letter) => text.extend(['\\', letter]),
                },
                '$' => self.expansion(text),
                _ => text.push(letter),
            }
        }
    }

    fn expansion(&mut self, text: &mut String) {
        match self.letters.peek() {
            Some('(') => {
                self.next();
                self.list(Some(')'));
            }
            Some('{') => while self.next().is_some_and(|letter| letter != '}') {},
            Some(letter) if letter.is_ascii_alphabetic() || *letter == '_' => {
                while self
                    .letters
                    .peek()
                    .is_some_and(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                {
                    self.next();
                }
            }
            Some(letter) if letter.is_ascii_digit() || "?!#@*$-".contains(*letter) => {
                self.next();
            }
            _ => {
                text.push('$');
                return;
            }
        }
        text.push(UNKNOWN);
    }

    fn redirect(&mut self, letter: char, words: &mut Words) {
        // A number before it is that of a file descriptor.
        if words.word.as_ref().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
            words.word = None;
        }
        self.end_word(words);
        if self.letters.peek() == Some(&'(') {
            self.next();
            self.list(Some(')'));
            words.words.push(UNKNOWN.to_string());
            return;
        }
        let mut operator = String::from(letter);
        while let Some(letter) = self.letters.next_if(|letter| "<>&|-".contains(*letter)) {
            operator.push(letter);
        }
        let is_document = matches!(&operator[..], "<<" | "<<-");
        words.redirects = Some(if is_document { Redirect::Document } else { Redirect::File });
    }

    fn end_word(&mut self, words: &mut Words) {
        let Some(word) = words.word.take() else { return };
        match words.redirects.take() {
            None => words.words.push(word),
            Some(Redirect::File) => {}
            Some(Redirect::Document) => self.heredocs.push(word),
        }
    }

    fn end_command(&mut self, words: &mut Words) {
        self.end_word(words);
        let Words { line, words, .. } = std::mem::take(words);
        let words = without_prefixes(words);
        if !words.is_empty() {
            self.found.push(Command { line, words });
        }
    }

    fn skip_documents(&mut self) {
        for end in std::mem::take(&mut self.heredocs) {
            loop {
                let mut line = String::new();
                while let Some(letter) = self.next().filter(|letter| *letter != '\n') {
                    line.push(letter);
                }
                if line.trim_start_matches('\t') == end || self.letters.peek().is_none() {
                    break;
                }
            }
        }
    }
}

/// Without keywords, assignments and programs that only start another one.
fn without_prefixes(mut words: Vec<String>) -> Vec<String> {
    const PREFIXES: [&str; 18] = [
        "if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}", "time", "sudo",
        "nohup", "exec", "env", "command",
    ];
    let is_assignment = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    let rest = words.iter().position(|word| !PREFIXES.contains(&&word[..]) && !is_assignment(word));
    words.drain(..rest.unwrap_or(words.len()));
    if words.first().is_some_and(|word| word == "for" || word == "case") { Vec::new() } else { words }
}

#[test]
fn commands_are_found_with_their_words() {
    let table: [(&str, &[&[&str]]); 10] = [
        (
            "cluster up --gpus 4 # four\n\ncluster status",
            &[&["cluster", "up", "--gpus", "4"], &["cluster", "status"]],
        ),
        (
            "curl -d '{\"a\": [1, 2]}' \\\n  http://x | jq .a > out.json",
            &[&["curl", "-d", "{\"a\": [1, 2]}", "http://x"], &["jq", ".a"]],
        ),
        (
            "KEY=$(cluster key create bob) && echo \"$KEY: ${X:-y}\"",
            &[&["cluster", "key", "create", "bob"], &["echo", "1: 1"]],
        ),
        ("A=1 sudo cluster down 2>/dev/null &", &[&["cluster", "down"]]),
        ("for i in 1 2; do cluster scale a/b --min $i; done", &[&["cluster", "scale", "a/b", "--min", "1"]]),
        (
            "cat > a.toml <<'EOF'\ncluster nonsense\nEOF\ncluster deploy a.toml",
            &[&["cat"], &["cluster", "deploy", "a.toml"]],
        ),
        (
            "curl -H \"authorization: Bearer $(cat x/admin.token)\" y",
            &[&["cat", "x/admin.token"], &["curl", "-H", "authorization: Bearer 1", "y"]],
        ),
        (
            "until cluster status --json >/dev/null 2>&1; do sleep 1; done",
            &[&["cluster", "status", "--json"], &["sleep", "1"]],
        ),
        ("echo a\\ b \"c \\\"d\\\"\" 'e'f", &[&["echo", "a b", "c \"d\"", "ef"]]),
        ("paste <(cluster status) b", &[&["cluster", "status"], &["paste", "1", "b"]]),
    ];
    for (script, expected) in table {
        let found: Vec<_> = commands(script).into_iter().map(|command| command.words).collect();
        assert_eq!(found, expected, "{script}");
    }
    let lines: Vec<_> = commands("\na \\\n b\n\nc").into_iter().map(|command| command.line).collect();
    assert_eq!(lines, [1, 4]);
}
