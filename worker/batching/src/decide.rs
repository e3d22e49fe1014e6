//! The rule of batching: which parts of waiting calls run now, or until when to wait for company.
//!
//! The first of the queue leads: only what may run with it counts. A batch closes at once when it is full, when its
//! size is a preferred one, when what comes next does not fit it, or when its oldest part has waited long enough. Out of
//! what waits, parts of similar length run together, the leader always among them. Preferred sizes follow the dynamic
//! batcher of Triton; the cases in the tests are its documented ones.

use std::time::{Duration, Instant};

/// Padding that is always worth a run saved, in tokens.
const FREE_PADDING_TOKENS: usize = 64;
/// Inputs looked at for one batch, in batches: more would only cost sorting.
const WINDOW_BATCHES: usize = 8;

/// A part of a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The call; its parts stand next to each other, as long as they wait.
    pub call: usize,
    /// Inputs in the part, at least 1.
    pub inputs: usize,
    /// Tokens of each of its inputs as they are padded together; the same for all where nothing is padded.
    pub tokens: usize,
    /// What it may run with: parts of the same group; `None` runs alone.
    pub group: Option<u64>,
    /// Since when its call waits.
    pub since: Instant,
    /// Whether it is not to wait any longer: a batch that it belonged to has closed.
    pub due: bool,
}

/// What bounds a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits<'a> {
    /// Most inputs, at least 1; a single part larger than this still runs, alone.
    pub max_size: usize,
    /// Most tokens, padding counted; a single part larger than this still runs, alone.
    pub max_tokens: usize,
    /// How long the oldest part waits for company.
    pub max_wait: Duration,
    /// Sizes at which a batch closes at once, ascending; a batch of several calls does not grow beyond the largest.
    pub preferred_sizes: &'a [u32],
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run these together.
    Run {
        /// Places in the queue, ascending, at least one.
        parts: Vec<usize>,
        /// Places of parts whose batch has closed though they do not run yet: they are not to wait any longer.
        due: Vec<usize>,
    },
    /// Wait for company until this instant, or for the next call.
    WaitUntil(Instant),
}

/// The batch that is forming.
#[derive(Debug, Default)]
struct Forming {
    /// Its parts.
    parts: Vec<usize>,
    inputs: usize,
    longest: usize,
    /// How many of the parts make up the largest preferred size so far.
    preferred: Option<usize>,
    /// Whether nothing more fits.
    is_closed: bool,
}

/// Decides what to do with the queue, first come first; `None` when it is empty. Costs a sort of a few batches' lengths.
pub fn next<T>(
    queue: &[T],
    look: impl Fn(&T) -> &Waiting,
    limits: &Limits<'_>,
    now: Instant,
) -> Option<Next> {
    let lead = look(queue.first()?);
    if lead.group.is_none() {
        return Some(Next::Run { parts: vec![0], due: Vec::new() });
    }
    let at = |place: usize| look(&queue[place]);
    let forming = form(queue.len(), &at, limits);
    let oldest = forming.parts.iter().map(|&place| at(place).since).min().unwrap_or(now);
    let is_over = now >= oldest + limits.max_wait || forming.parts.iter().any(|&place| at(place).due);
    if !forming.is_closed && !is_over && forming.preferred.is_none() {
        return Some(Next::WaitUntil(oldest + limits.max_wait));
    }
    let closed = match forming.preferred {
        Some(num_parts) if !is_over => &forming.parts[..num_parts],
        _ => &forming.parts[..],
    };
    let parts = if limits.preferred_sizes.is_empty() {
        by_length(queue.len(), &at, limits)
    } else {
        first_that_fit(closed, &at, limits)
    };
    let due = closed.iter().copied().filter(|place| parts.binary_search(place).is_err()).collect();
    Some(Next::Run { parts, due })
}

/// Takes calls of the leader's group in their order until one does not fit.
fn form<'a>(len: usize, at: &impl Fn(usize) -> &'a Waiting, limits: &Limits<'_>) -> Forming {
    let lead = at(0);
    let largest_preferred = limits.preferred_sizes.last().map(|&size| size as usize);
    let most = largest_preferred.unwrap_or(limits.max_size).min(limits.max_size);
    let mut forming = Forming::default();
    let mut place = 0;
    while place < len {
        let first = at(place);
        if first.group != lead.group {
            // What comes next does not fit: no use in waiting. What fits behind it may still come along.
            forming.is_closed = true;
            place += 1;
            continue;
        }
        let call = (place..len).take_while(|&it| at(it).call == first.call && at(it).group == lead.group);
        let end = call.last().unwrap_or(place) + 1;
        let inputs = (place..end).map(|it| at(it).inputs).sum::<usize>() + forming.inputs;
        let longest = (place..end).map(|it| at(it).tokens).max().unwrap_or(0).max(forming.longest);
        if !forming.parts.is_empty() && (inputs > most || inputs * longest > limits.max_tokens) {
            forming.is_closed = true;
            break;
        }
        forming.parts.extend(place..end);
        forming.inputs = inputs;
        forming.longest = longest;
        if limits.preferred_sizes.iter().any(|&size| size as usize == inputs) {
            forming.preferred = Some(forming.parts.len());
        }
        if inputs >= most {
            forming.is_closed = true;
            break;
        }
        place = end;
    }
    forming
}

/// The first of the parts, as many as one batch holds.
fn first_that_fit<'a>(
    parts: &[usize],
    at: &impl Fn(usize) -> &'a Waiting,
    limits: &Limits<'_>,
) -> Vec<usize> {
    let (mut inputs, mut longest) = (0, 0);
    let fits = |&&place: &&usize| {
        let part = at(place);
        let (more, wider) = (inputs + part.inputs, part.tokens.max(longest));
        let fits = inputs == 0 || (more <= limits.max_size && more * wider <= limits.max_tokens);
        (inputs, longest) = (more, wider);
        fits
    };
    parts.iter().take_while(fits).copied().collect()
}

/// The leader and those of its group next to it in length, while the limits hold and padding stays below a quarter of
/// the real tokens; ascending places.
fn by_length<'a>(len: usize, at: &impl Fn(usize) -> &'a Waiting, limits: &Limits<'_>) -> Vec<usize> {
    let group = at(0).group;
    let (window, mut looked_at) = (limits.max_size.saturating_mul(WINDOW_BATCHES), 0);
    let mut order: Vec<usize> = (0..len)
        .filter(|&place| at(place).group == group)
        .take_while(|&place| {
            let is_within = looked_at < window;
            looked_at += at(place).inputs;
            is_within
        })
        .collect();
    // Equal lengths stay first come first.
    order.sort_by_key(|&place| at(place).tokens);
    let lead = order.iter().position(|&place| place == 0).unwrap_or(0);
    let (mut low, mut high) = (lead, lead);
    let (mut inputs, mut real) = (at(0).inputs, at(0).inputs * at(0).tokens);
    loop {
        let longest = at(order[high]).tokens;
        // A candidate: the batch's inputs, its area with padding and its real tokens, with that part in it.
        let with = |place: usize, longest: usize| {
            let part = at(place);
            let inputs = inputs + part.inputs;
            (inputs, inputs * longest, real + part.inputs * part.tokens)
        };
        let shorter = low.checked_sub(1).map(|it| with(order[it], longest));
        let longer = order.get(high + 1).map(|&place| with(place, at(place).tokens));
        let padding = |(_, area, tokens): (usize, usize, usize)| area - tokens;
        let take_longer = match (shorter, longer) {
            (None, None) => break,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(shorter), Some(longer)) => padding(longer) <= padding(shorter),
        };
        let Some((more, area, tokens)) = (if take_longer { longer } else { shorter }) else { break };
        let is_too_much = more > limits.max_size || area > limits.max_tokens;
        if is_too_much || area - tokens > tokens / 4 + FREE_PADDING_TOKENS {
            break;
        }
        (inputs, real) = (more, tokens);
        if take_longer {
            high += 1;
        } else {
            low -= 1;
        }
    }
    let mut chosen = order[low..=high].to_vec();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests;
