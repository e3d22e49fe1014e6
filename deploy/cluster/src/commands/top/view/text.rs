//! Texts in a given number of characters.

/// A text that is no longer than that; one that was says so.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

/// A text that is as long as that at least.
pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so() {
        let cases =
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("→→→→", 3, "→→…"), ("ab", 1, "…"), ("ab", 0, "")];
        for (text, width, expected) in cases {
            assert_eq!(cut(text, width), expected, "{text} {width}");
        }
        assert_eq!(pad("→", 3), "→  ");
    }
}
