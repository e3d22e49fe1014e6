//! Which columns a table of that width has, and how wide each is. Where it is narrow, those that say least are left out.

/// A column beside the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Requests at replicas.
    Ongoing,
    /// Requests that wait at ingresses.
    Queued,
    /// Requests for each ready replica, and the number that the autoscaler aims at.
    Load,
    /// Replicas that are ready, and the number that was decided on.
    Ready,
    /// The number of replicas that the requests of this moment ask for.
    Desired,
    /// Shares of GPUs.
    Gpu,
    /// Bars of the last minute.
    Minute,
    /// The last decision.
    Decision,
}

/// What a column is like.
struct Kind {
    cell: Cell,
    title: &'static str,
    /// What it needs.
    width: usize,
    /// The one with the highest is left out first; one of 0 stays.
    rank: u8,
}

const fn kind(cell: Cell, title: &'static str, width: usize, rank: u8) -> Kind {
    Kind { cell, title, width, rank }
}

/// All columns beside the name, from left to right.
const KINDS: [Kind; 8] = [
    kind(Cell::Ongoing, "ONGOING", 7, 0),
    kind(Cell::Queued, "QUEUED", 6, 4),
    kind(Cell::Load, "LOAD", 7, 1),
    kind(Cell::Ready, "READY", 5, 0),
    kind(Cell::Desired, "DESIRED", 7, 5),
    kind(Cell::Gpu, "GPUS", 6, 2),
    kind(Cell::Minute, "LAST MINUTE", 12, 1),
    kind(Cell::Decision, "LAST DECISION", 16, 3),
];

/// Between two columns.
pub(super) const GAP: usize = 2;
/// A longer name gives way to other columns, and is cut.
const NAME_WIDTH: usize = 18;
/// The bars of a minute and the words of a decision grow up to these where there is room.
const MAX_MINUTE: usize = 30;
const MAX_DECISION: usize = 28;

/// A column that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Which one.
    pub(super) cell: Cell,
    /// What stands above it.
    pub(super) title: &'static str,
    /// How wide it is.
    pub(super) width: usize,
}

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// How wide the names are.
    pub(super) name: usize,
    /// What stands beside them, from left to right.
    pub(super) others: Vec<Column>,
}

/// Whether some deployment has a share of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gpus {
    /// One has.
    Some,
    /// None has: a column of dashes says nothing.
    None,
}

/// The columns for that many characters, where the longest name has `longest_name`.
pub(super) fn of_width(width: usize, longest_name: usize, gpus: Gpus) -> Columns {
    let mut name = longest_name.clamp("NAME".len(), NAME_WIDTH);
    let mut shown: Vec<&Kind> =
        KINDS.iter().filter(|kind| kind.cell != Cell::Gpu || gpus == Gpus::Some).collect();
    let needed = |shown: &[&Kind]| name + shown.iter().map(|kind| kind.width + GAP).sum::<usize>();
    while needed(&shown) > width {
        let least = (0..shown.len()).max_by_key(|&at| shown[at].rank);
        let Some(at) = least.filter(|&at| shown[at].rank > 0) else { break };
        shown.remove(at);
    }
    let mut left = width.saturating_sub(needed(&shown));
    let mut grow = |from: usize, to: usize| {
        let more = to.saturating_sub(from).min(left);
        left -= more;
        from + more
    };
    name = grow(name, longest_name);
    let others = shown.into_iter().map(|kind| {
        let width = match kind.cell {
            Cell::Minute => grow(kind.width, MAX_MINUTE),
            Cell::Decision => grow(kind.width, MAX_DECISION),
            _ => kind.width,
        };
        Column { cell: kind.cell, title: kind.title, width }
    });
    let others = others.collect();
    Columns { name, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(columns: &Columns) -> String {
        columns.others.iter().map(|column| column.title).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_says_least_is_left_out_first_and_room_that_is_left_is_used() {
        for (width, expected) in [
            (200, "ONGOING QUEUED LOAD READY DESIRED GPUS LAST MINUTE LAST DECISION"),
            (80, "ONGOING LOAD READY GPUS LAST MINUTE LAST DECISION"),
            (60, "ONGOING LOAD READY LAST MINUTE"),
            (20, "ONGOING READY"),
        ] {
            let columns = of_width(width, 14, Gpus::Some);
            assert_eq!(titles(&columns), expected, "{width}");
            let used = columns.name + columns.others.iter().map(|column| column.width + GAP).sum::<usize>();
            assert!(used <= width.max(30), "{width}: {used}");
        }
        assert_eq!(
            titles(&of_width(84, 14, Gpus::None)),
            "ONGOING QUEUED LOAD READY LAST MINUTE LAST DECISION"
        );
        assert_eq!(of_width(200, 50, Gpus::Some).name, 50);
        assert_eq!(of_width(60, 50, Gpus::Some).name, 21);
    }
}
