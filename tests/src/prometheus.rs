//! A strict reader of Prometheus's text form, version 0.0.4: what it accepts, any scraper does. It refuses families without
//! help or type, families in pieces, duplicate series, malformed names and labels, and histograms that do not add up.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// A series' labels.
pub type Labels = BTreeMap<String, String>;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name, with `_bucket`, `_sum` or `_count` where it is a part of a histogram.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The number.
    pub value: f64,
}

/// Metrics of one name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Its numbers.
    pub samples: Vec<Sample>,
}

/// A whole page, by name of family.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The families.
    pub families: BTreeMap<String, Family>,
}

impl Page {
    /// Reads a page.
    pub fn parse(text: &str) -> Result<Self> {
        let mut page = Self::default();
        let mut current = String::new();
        ensure!(text.ends_with('\n'), "the page does not end with a line feed");
        for (index, line) in text.lines().enumerate() {
            let read = page.read_line(line, &mut current);
            read.with_context(|| format!("line {}: {line}", index + 1))?;
        }
        page.check()?;
        Ok(page)
    }

    fn read_line(&mut self, line: &str, current: &mut String) -> Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("help without a text")?;
            ensure!(is_name(name), "`{name}` is not a name");
            ensure!(!self.families.contains_key(name), "a second family of that name");
            name.clone_into(current);
            self.families.insert(name.to_owned(), Family { help: help.to_owned(), ..Family::default() });
            return Ok(());
        }
        let family = self.families.get_mut(current).context("nothing has said what this is")?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type without a kind")?;
            ensure!(name == current, "the type does not follow its help");
            ensure!(family.kind.is_empty() && family.samples.is_empty(), "a second type");
            ensure!(["counter", "gauge", "histogram"].contains(&kind), "`{kind}` is not a kind");
            kind.clone_into(&mut family.kind);
            return Ok(());
        }
        ensure!(!line.starts_with('#'), "a comment that is neither help nor type");
        ensure!(!family.kind.is_empty(), "a sample before its type");
        let sample = parse_sample(line)?;
        let base = match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.name.strip_suffix(end)),
            _ => Some(sample.name.as_str()),
        };
        ensure!(base == Some(current), "a sample of another family");
        family.samples.push(sample);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        for (name, family) in &self.families {
            ensure!(!family.kind.is_empty(), "`{name}` has no type");
            ensure!(!family.samples.is_empty(), "`{name}` has no samples");
            ensure!(name.ends_with("_total") == (family.kind == "counter"), "`{name}` is a {}", family.kind);
            let mut seen = BTreeSet::new();
            for sample in &family.samples {
                let series = (&sample.name, &sample.labels);
                ensure!(seen.insert(series), "{series:?} is there twice");
                ensure!(sample.value.is_finite(), "{series:?} is {}", sample.value);
                let grows = family.kind != "gauge";
                ensure!(!grows || sample.value >= 0.0, "{series:?} is negative");
            }
            if family.kind == "histogram" {
                check_histogram(family).with_context(|| format!("histogram `{name}`"))?;
            }
        }
        Ok(())
    }

    /// The sum of a metric's numbers whose labels include these; 0 when there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// The number of a metric whose labels include these, when there is exactly one.
    #[must_use]
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.matching(name, labels);
        let first = found.next()?;
        found.next().is_none().then_some(first.value)
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let fits = move |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|is| is == value))
        };
        self.families.values().flat_map(|family| &family.samples).filter(fits)
    }
}

/// Buckets rise to `+Inf`, which is the count; each series has a sum.
fn check_histogram(family: &Family) -> Result<()> {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts: BTreeMap<Labels, f64> = BTreeMap::new();
    let mut sums: BTreeSet<Labels> = BTreeSet::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        if sample.name.ends_with("_bucket") {
            let bound = labels.remove("le").context("a bucket without `le`")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
            series.entry(labels).or_default().push((bound, sample.value));
        } else if sample.name.ends_with("_count") {
            counts.insert(labels, sample.value);
        } else {
            sums.insert(labels);
        }
    }
    for (labels, buckets) in &series {
        ensure!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "buckets of {labels:?} do not rise");
        let last = buckets.last().context("no buckets")?;
        ensure!(last.0 == f64::INFINITY, "buckets of {labels:?} do not end with +Inf");
        ensure!(counts.get(labels) == Some(&last.1), "the count of {labels:?} is not its last bucket");
        ensure!(sums.contains(labels), "{labels:?} has no sum");
    }
    ensure!(counts.len() == series.len() && sums.len() == series.len(), "a count or sum without buckets");
    Ok(())
}

fn is_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    text.bytes().next().is_some_and(|b| !b.is_ascii_digit()) && text.bytes().all(ok)
}

fn parse_sample(line: &str) -> Result<Sample> {
    let name_end = line.find(['{', ' ']).context("a name alone")?;
    let (name, mut rest) = line.split_at(name_end);
    ensure!(is_name(name), "`{name}` is not a name");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").context("a label without a value")?;
            ensure!(is_name(key) && !key.contains(':'), "`{key}` is not a label");
            let (value, after) = unquote(after)?;
            ensure!(labels.insert(key.to_owned(), value).is_none(), "label `{key}` is there twice");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').context("no space before the number")?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse().context("not a number")? })
}

/// A label's value up to its closing quote, and what comes after.
fn unquote(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                other => bail!("`\\` before {other:?}"),
            },
            c => value.push(c),
        }
    }
    bail!("a label's value does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\"} 3\na_total 4\n\n\
                        # HELP h_seconds How long.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.1\"} 1\n\
                        h_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 1.5\nh_seconds_count 2\n";

    #[test]
    fn a_good_page_is_read() {
        let page = Page::parse(GOOD).unwrap();
        assert_eq!(page.sum("a_total", &[]), 7.0);
        assert_eq!(page.one("a_total", &[("y", "q\"")]), Some(3.0));
        assert_eq!(page.one("h_seconds_count", &[]), Some(2.0));
    }

    #[test]
    fn bad_pages_are_refused() {
        let bad = [
            ("no line feed", GOOD.trim_end().to_owned()),
            ("no help", "# TYPE a_total counter\na_total 1\n".to_owned()),
            ("no type", "# HELP a_total What.\na_total 1\n".to_owned()),
            ("twice", GOOD.replace("a_total 4", "a_total 4\na_total 5")),
            ("two families", format!("{GOOD}{GOOD}")),
            ("a gauge of a counter's name", GOOD.replace("total counter", "total gauge")),
            ("a count that is not the last bucket", GOOD.replace("count 2", "count 3")),
            ("buckets that fall", GOOD.replace("\"0.1\"} 1", "\"0.1\"} 3")),
            ("no +Inf", GOOD.replace("h_seconds_bucket{le=\"+Inf\"} 2\n", "")),
            ("a label twice", GOOD.replace("y=", "x=")),
            ("an open label", GOOD.replace("\\\"\"}", "}")),
            ("not a number", GOOD.replace("a_total 4", "a_total NaN")),
        ];
        for (what, text) in bad {
            assert!(Page::parse(&text).is_err(), "{what}:\n{text}");
        }
    }
}
