//! A prefix tree of lines: the node of a task stands for its output so far, and the lowest common ancestor of two tasks is where
//! they diverge. Stores hashes of lines, not lines.

use std::collections::HashMap;

/// A place in a tree.
pub(super) type NodeId = u32;

/// Where every task begins.
pub(super) const ROOT: NodeId = 0;

/// No node; the root is nobody's child.
const NONE: NodeId = 0;

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    parent: NodeId,
    /// An ancestor far above, in the pattern of skew-binary numbers: any ancestor is found in logarithmic time.
    jump: NodeId,
    depth: u32,
    /// The child that was there first; others are in the map.
    first_child: NodeId,
}

/// A tree of lines.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Children that are not their parent's first one. Most lines of most fleets never get here.
    more_children: HashMap<(NodeId, u64), NodeId>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { hash: 0, parent: ROOT, jump: ROOT, depth: 0, first_child: NONE };
        Self { nodes: vec![root], more_children: HashMap::new() }
    }
}

impl Tree {
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The place after one more line.
    pub(super) fn step(&mut self, from: NodeId, hash: u64) -> NodeId {
        let first = self.node(from).first_child;
        if first != NONE && self.node(first).hash == hash {
            return first;
        }
        if first != NONE
            && let Some(known) = self.more_children.get(&(from, hash))
        {
            return *known;
        }
        let id = NodeId::try_from(self.nodes.len()).unwrap_or(NodeId::MAX);
        let parent = *self.node(from);
        let jumped = self.node(parent.jump);
        let jump = if parent.depth - jumped.depth == jumped.depth - self.node(jumped.jump).depth {
            jumped.jump
        } else {
            from
        };
        self.nodes.push(Node { hash, parent: from, jump, depth: parent.depth + 1, first_child: NONE });
        if first == NONE {
            self.nodes[from as usize].first_child = id;
        } else {
            self.more_children.insert((from, hash), id);
        }
        id
    }

    /// Lines before a place.
    pub(super) fn depth(&self, id: NodeId) -> u32 {
        self.node(id).depth
    }

    /// Returns the ancestor of `id` that has a number of lines before it.
    pub(super) fn ancestor(&self, mut id: NodeId, depth: u32) -> NodeId {
        while self.node(id).depth > depth {
            let node = self.node(id);
            id = if self.node(node.jump).depth >= depth { node.jump } else { node.parent };
        }
        id
    }

    /// Whether what led to `upper` is a prefix of what led to `lower`.
    pub(super) fn is_prefix(&self, upper: NodeId, lower: NodeId) -> bool {
        self.depth(upper) <= self.depth(lower) && self.ancestor(lower, self.depth(upper)) == upper
    }

    /// Lines that two places have in common.
    pub(super) fn common(&self, left: NodeId, right: NodeId) -> u32 {
        let depth = self.depth(left).min(self.depth(right));
        let (mut a, mut b) = (self.ancestor(left, depth), self.ancestor(right, depth));
        while a != b {
            let (up, down) = (self.node(a), self.node(b));
            // Nodes of one depth jump equally far.
            (a, b) = if up.jump == down.jump { (up.parent, down.parent) } else { (up.jump, down.jump) };
        }
        self.depth(a)
    }

    /// Bytes that it takes in memory, nearly.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.more_children.capacity() * (size_of::<(NodeId, u64)>() + size_of::<NodeId>() + 1)
    }
}
