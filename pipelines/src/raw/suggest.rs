//! "Did you mean …?" for keys and names.

/// Longest text that is compared, in characters; typing mistakes live in short names.
const MAX_COMPARED: usize = 64;

/// The candidate that is most like `text`, when one is near enough to be what was meant.
#[must_use]
pub fn closest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
) -> Option<&'a str> {
    let candidates = candidates.into_iter();
    if let Some(whole) = abbreviated(text, candidates.clone()) {
        return Some(whole);
    }
    let limit = (text.chars().count() / 3).clamp(1, 4);
    candidates
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The only candidate that begins with the text as a word of its own: `min` is short for `min_replicas`.
fn abbreviated<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut longer = candidates.filter(|it| it.strip_prefix(text).is_some_and(|rest| rest.starts_with('_')));
    longer.next().filter(|_| longer.next().is_none() && !text.is_empty())
}

/// Help for an unknown name: the one that was probably meant, or all there are.
pub(crate) fn did_you_mean<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str, IntoIter: Clone> + Clone,
) -> String {
    if let Some(candidate) = closest(text, candidates.clone()) {
        return format!("did you mean `{candidate}`?");
    }
    let mut all = Vec::new();
    for candidate in candidates {
        let quoted = format!("`{candidate}`");
        if !all.contains(&quoted) {
            all.push(quoted);
        }
    }
    match all.len() {
        0 => "there are none".to_owned(),
        1 => format!("there is only {}", all[0]),
        _ => format!("use one of {}", all.join(", ")),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two short texts; `usize::MAX` for long ones.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_COMPARED + 1).collect();
    let b: Vec<char> = b.chars().take(MAX_COMPARED + 1).collect();
    if a.len() > MAX_COMPARED || b.len() > MAX_COMPARED {
        return usize::MAX;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let keys = ["max_size", "max_wait", "preferred_sizes"];
        assert_eq!(closest("max_szie", keys), Some("max_size"));
        assert_eq!(closest("maxsize", keys), Some("max_size"));
        assert_eq!(closest("preferred", keys), Some("preferred_sizes"));
        assert_eq!(closest("color", keys), None);
        assert_eq!(closest("max", keys), None, "there are two");
        assert_eq!(did_you_mean("x", ["embedder"]), "there is only `embedder`");
        assert_eq!(did_you_mean("x", ["best", "near", "best"]), "use one of `best`, `near`");
        assert_eq!(did_you_mean("embeder", ["embedder"]), "did you mean `embedder`?");
        assert_eq!(closest(&"a".repeat(10_000), keys), None);
    }
}
