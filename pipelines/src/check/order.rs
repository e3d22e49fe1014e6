//! The order in which stages can be compiled: each after those that it uses. Plain indices, no names.

/// An order, and what stands against one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Every stage once. A stage stands after those that it uses, but for uses within a cycle.
    pub(super) stages: Vec<usize>,
    /// Cycles, each as the stages along it; a stage that uses itself is a cycle of one.
    pub(super) cycles: Vec<Vec<usize>>,
}

/// Orders stages by what each uses (`uses[stage]`, any order). Where there is a choice, the order of the file stays.
pub(super) fn order(uses: &[Vec<usize>]) -> Order {
    let mut done = vec![false; uses.len()];
    let mut order = Order { stages: Vec::with_capacity(uses.len()), cycles: Vec::new() };
    while order.stages.len() < uses.len() {
        let before = order.stages.len();
        for stage in 0..uses.len() {
            if !done[stage] && uses[stage].iter().all(|&used| done[used]) {
                done[stage] = true;
                order.stages.push(stage);
            }
        }
        if order.stages.len() == before {
            let cycle = find_cycle(uses, &done);
            for &stage in &cycle {
                done[stage] = true;
                order.stages.push(stage);
            }
            order.cycles.push(cycle);
        }
    }
    order
}

/// A cycle among stages that are not done, each of which uses one that is not done; it begins with its first stage in
/// the file.
fn find_cycle(uses: &[Vec<usize>], done: &[bool]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut at = done.iter().position(|done| !done).unwrap_or(0);
    loop {
        if let Some(start) = path.iter().position(|&seen| seen == at) {
            let mut cycle = path.split_off(start);
            let first = (0..cycle.len()).min_by_key(|&index| cycle[index]).unwrap_or(0);
            cycle.rotate_left(first);
            return cycle;
        }
        path.push(at);
        match uses[at].iter().find(|&&used| !done[used]) {
            Some(&next) => at = next,
            None => return path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_table() {
        type Lists<'a> = &'a [&'a [usize]];
        let cases: [(Lists<'_>, &[usize], Lists<'_>); 6] = [
            (&[], &[], &[]),
            (&[&[], &[0], &[0, 1]], &[0, 1, 2], &[]),
            (&[&[1], &[2], &[]], &[2, 1, 0], &[]),
            (&[&[0]], &[0], &[&[0]]),
            (&[&[1], &[0], &[1], &[]], &[3, 0, 1, 2], &[&[0, 1]]),
            (&[&[2], &[0], &[1], &[4], &[3], &[0, 3]], &[0, 2, 1, 3, 4, 5], &[&[0, 2, 1], &[3, 4]]),
        ];
        for (uses, stages, cycles) in cases {
            let uses: Vec<Vec<usize>> = uses.iter().map(|used| used.to_vec()).collect();
            let found = order(&uses);
            assert_eq!(found.stages, stages, "{uses:?}");
            assert_eq!(
                found.cycles,
                cycles.iter().map(|cycle| cycle.to_vec()).collect::<Vec<_>>(),
                "{uses:?}"
            );
        }
    }
}
