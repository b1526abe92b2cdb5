//! Finds the running tasks that are in step: a task whose output is a prefix of another's in both streams is
//! behind that task. Works on positions in two trees, and on the number of tasks at each position.
//!
//! In preorder, all nodes that continue a node directly follow it. A position is therefore an interval in the
//! order of each tree, and a rectangle in both together. A position that no other continues is an end: its
//! rectangle contains only its own point. So of ten thousand positions, no two need to be compared with each
//! other.

use std::{cmp::Ordering, cmp::Reverse, collections::HashMap};

use super::tree::{NodeId, Tree};

/// The position of some tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The node in each tree.
    pub(super) nodes: [NodeId; 2],
    /// The number of tasks.
    pub(super) count: u64,
    /// The lowest index of these tasks.
    pub(super) first: u32,
}

/// A half-open interval in a tree's preorder.
#[derive(Clone, Copy, Debug)]
struct Interval {
    from: u32,
    to: u32,
}

/// Returns for each position the end that its tasks are in step with: itself if it is not a prefix of another
/// position, otherwise the end that most tasks fit, and of those the one with the first task. All positions
/// must be different.
pub(super) fn ends(trees: &[Tree; 2], standings: &[Standing]) -> Vec<usize> {
    let [xs, ys] =
        [0, 1].map(|tree| intervals(&trees[tree], standings.iter().map(|place| place.nodes[tree])));
    let rectangle = |place: &Standing| (xs[&place.nodes[0]], ys[&place.nodes[1]]);
    let rectangles: Vec<(Interval, Interval)> = standings.iter().map(rectangle).collect();
    let points: Vec<(u32, u32)> = rectangles.iter().map(|(x, y)| (x.from, y.from)).collect();
    let counts = covering(&rectangles, standings);
    // Sorted so that better ends have higher ranks.
    let mut order: Vec<usize> = (0..standings.len()).collect();
    order.sort_unstable_by_key(|place| (counts[*place], Reverse(standings[*place].first)));
    let mut ranks = vec![0; standings.len()];
    for (rank, place) in (1u32..).zip(&order) {
        ranks[*place] = rank;
    }
    let all = Ranks::new(&points, &ranks);
    let is_end = |place: usize| all.count(rectangles[place]) == 1;
    let end_ranks: Vec<u32> =
        (0..points.len()).map(|place| if is_end(place) { ranks[place] } else { 0 }).collect();
    let ends = Ranks::new(&points, &end_ranks);
    // The rectangle of a position that is not an end always contains an end.
    let best =
        |place: usize| ends.best(rectangles[place]).checked_sub(1).map_or(place, |rank| order[rank as usize]);
    (0..points.len()).map(best).collect()
}

/// Returns for each node the interval of the nodes that continue it, itself included.
fn intervals(tree: &Tree, nodes: impl Iterator<Item = NodeId>) -> HashMap<NodeId, Interval> {
    let mut nodes: Vec<NodeId> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.sort_by(|left, right| in_order(tree, *left, *right));
    let mut intervals = HashMap::with_capacity(nodes.len());
    let mut open: Vec<(NodeId, u32)> = Vec::new();
    let mut close = |open: &mut Vec<(NodeId, u32)>, to: u32| {
        if let Some((node, from)) = open.pop() {
            intervals.insert(node, Interval { from, to });
        }
    };
    for (at, node) in (0u32..).zip(&nodes) {
        while open.last().is_some_and(|(above, _)| !tree.is_prefix(*above, *node)) {
            close(&mut open, at);
        }
        open.push((*node, at));
    }
    let end = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    while !open.is_empty() {
        close(&mut open, end);
    }
    intervals
}

/// Compares two nodes in preorder: a node comes before the nodes that continue it. Diverging nodes are
/// ordered by the first nodes that differ.
fn in_order(tree: &Tree, left: NodeId, right: NodeId) -> Ordering {
    let common = tree.common(left, right);
    let branch = |node: NodeId| (tree.depth(node) > common).then(|| tree.ancestor(node, common + 1));
    branch(left).cmp(&branch(right))
}

/// Returns for each position the number of tasks that are at it or behind it.
fn covering(rectangles: &[(Interval, Interval)], standings: &[Standing]) -> Vec<u64> {
    let height = rectangles.iter().map(|(_, y)| y.to).max().unwrap_or(0) as usize;
    // A Fenwick tree of differences over y: one change applies to all higher values.
    let mut sums = vec![0i64; height + 2];
    let add = |sums: &mut [i64], from: u32, count: i64| {
        let mut at = from as usize + 1;
        while at < sums.len() {
            sums[at] += count;
            at += at & at.wrapping_neg();
        }
    };
    // At equal x, an interval ends before another begins, and queries come last: an interval contains its
    // start and not its end.
    let mut steps: Vec<(u32, u8, usize)> = Vec::with_capacity(rectangles.len() * 3);
    for (place, (x, _)) in rectangles.iter().enumerate() {
        steps.extend([(x.to, 0, place), (x.from, 1, place), (x.from, 2, place)]);
    }
    steps.sort_unstable();
    let mut counts = vec![0; rectangles.len()];
    for (_, kind, place) in steps {
        let y = rectangles[place].1;
        let count = i64::try_from(standings[place].count).unwrap_or(i64::MAX);
        match kind {
            0 | 1 => {
                let count = if kind == 0 { -count } else { count };
                add(&mut sums, y.from, count);
                add(&mut sums, y.to, -count);
            }
            _ => {
                let (mut at, mut sum) = (y.from as usize + 1, 0);
                while at > 0 {
                    sum += sums[at];
                    at -= at & at.wrapping_neg();
                }
                counts[place] = u64::try_from(sum).unwrap_or(0);
            }
        }
    }
    counts
}

/// Points with ranks, as a range tree: a tree over x, whose nodes hold their points sorted by y and a tree of
/// the best ranks.
struct Ranks {
    xs: Vec<u32>,
    /// For each node its ys in ascending order, and its tree of ranks, with the leaves in the second half.
    nodes: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Ranks {
    fn new(points: &[(u32, u32)], ranks: &[u32]) -> Self {
        let mut sorted: Vec<(u32, u32, u32)> =
            points.iter().zip(ranks).map(|((x, y), rank)| (*x, *y, *rank)).collect();
        sorted.sort_unstable();
        let count = sorted.len();
        let mut leaves: Vec<Vec<(u32, u32)>> = vec![Vec::new(); count];
        leaves.extend(sorted.iter().map(|(_, y, rank)| vec![(*y, *rank)]));
        for at in (1..count).rev() {
            let mut both = [leaves[2 * at].as_slice(), leaves[2 * at + 1].as_slice()].concat();
            both.sort_unstable();
            leaves[at] = both;
        }
        let nodes = leaves.into_iter().map(|points| {
            let mut best = vec![0; points.len()];
            best.extend(points.iter().map(|(_, rank)| *rank));
            for at in (1..points.len()).rev() {
                best[at] = best[2 * at].max(best[2 * at + 1]);
            }
            (points.into_iter().map(|(y, _)| y).collect(), best)
        });
        Self { xs: sorted.iter().map(|(x, ..)| *x).collect(), nodes: nodes.collect() }
    }

    /// Calls `found` for the nodes that together hold the points of the interval x, with the range of their
    /// points in the interval y.
    fn visit(&self, (x, y): (Interval, Interval), mut found: impl FnMut(&[u32], usize, usize)) {
        let count = self.xs.len();
        let bound = |x: u32| self.xs.partition_point(|known| *known < x) + count;
        let (mut from, mut to) = (bound(x.from), bound(x.to));
        let mut look = |at: usize| {
            let (ys, best) = &self.nodes[at];
            let within = |y: u32| ys.partition_point(|known| *known < y);
            found(best, within(y.from), within(y.to));
        };
        while from < to {
            if from % 2 == 1 {
                look(from);
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                look(to);
            }
            (from, to) = (from / 2, to / 2);
        }
    }

    /// Returns the number of points in a rectangle.
    fn count(&self, rectangle: (Interval, Interval)) -> usize {
        let mut count = 0;
        self.visit(rectangle, |_, from, to| count += to - from);
        count
    }

    /// Returns the highest rank in a rectangle; 0 if it contains no ranked point.
    fn best(&self, rectangle: (Interval, Interval)) -> u32 {
        let mut all = 0;
        self.visit(rectangle, |best, from, to| {
            let count = best.len() / 2;
            let (mut from, mut to) = (from + count, to + count);
            while from < to {
                if from % 2 == 1 {
                    all = all.max(best[from]);
                    from += 1;
                }
                if to % 2 == 1 {
                    to -= 1;
                    all = all.max(best[to]);
                }
                (from, to) = (from / 2, to / 2);
            }
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computes the same by comparing every two positions.
    fn compared(trees: &[Tree; 2], standings: &[Standing]) -> Vec<usize> {
        let is_prefix = |upper: usize, lower: usize| {
            let nodes = standings[upper].nodes.into_iter().zip(standings[lower].nodes);
            trees.iter().zip(nodes).all(|(tree, (upper, lower))| tree.is_prefix(upper, lower))
        };
        let all = 0..standings.len();
        let is_end = |place: usize| !all.clone().any(|other| other != place && is_prefix(place, other));
        let count = |end: usize| -> u64 {
            all.clone().filter(|place| is_prefix(*place, end)).map(|place| standings[place].count).sum()
        };
        let best = |place: usize| {
            let fits = all.clone().filter(|end| is_end(*end) && is_prefix(place, *end));
            fits.max_by_key(|end| (count(*end), Reverse(standings[*end].first))).unwrap()
        };
        all.clone().map(best).collect()
    }

    proptest! {
        #[test]
        fn places_find_the_end_that_comparing_all_of_them_finds(
            lines in proptest::collection::vec((0u64..3, 0u64..3, any::<bool>()), 1..60),
            steps in proptest::collection::vec((0usize..60, 0usize..60), 1..40),
            tasks in proptest::collection::vec(1u64..4, 40),
        ) {
            let mut trees = [Tree::default(), Tree::default()];
            let mut nodes = [vec![0], vec![0]];
            for (from, hash, which) in lines {
                let which = usize::from(which);
                let from = nodes[which][usize::try_from(from).unwrap() * 7 % nodes[which].len()];
                let node = trees[which].step(from, hash, b"");
                nodes[which].push(node);
            }
            let mut standings: Vec<Standing> = Vec::new();
            for ((left, right), count) in steps.into_iter().zip(tasks) {
                let place = [nodes[0][left % nodes[0].len()], nodes[1][right % nodes[1].len()]];
                if standings.iter().all(|known| known.nodes != place) {
                    let first = u32::try_from(standings.len()).unwrap() * 7 % 41;
                    standings.push(Standing { nodes: place, count, first });
                }
            }
            prop_assert_eq!(ends(&trees, &standings), compared(&trees, &standings));
        }
    }
}
