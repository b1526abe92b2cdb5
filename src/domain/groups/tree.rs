//! A prefix tree of lines: a node represents the output of a task so far, and the lowest common ancestor of
//! two nodes is where the outputs diverge. Stores hashes of lines, and the beginnings of the first lines that it is given, until
//! they take a fixed size: most fleets print few different lines.

use std::collections::HashMap;

/// The index of a node.
pub(super) type NodeId = u32;

/// The node of a task without output.
pub(super) const ROOT: NodeId = 0;

/// The maximum size of the stored beginnings of lines, in bytes.
const MAX_TEXT_BYTES: usize = 512 * 1024;

/// The value for no child: the root is never a child.
const NONE: NodeId = 0;

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    parent: NodeId,
    /// A distant ancestor, chosen as in skew-binary numbers, so that every ancestor is found in logarithmic
    /// time.
    jump: NodeId,
    depth: u32,
    /// The child that was added first; the others are in `more_children`.
    first_child: NodeId,
}

/// A tree of lines.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Children that are not the first child of their parent. Most lines of most fleets do not get here.
    more_children: HashMap<(NodeId, u64), NodeId>,
    /// The beginnings of the lines of the first nodes, one after the other, and the end of each.
    texts: Vec<u8>,
    text_ends: Vec<usize>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { hash: 0, parent: ROOT, jump: ROOT, depth: 0, first_child: NONE };
        Self { nodes: vec![root], more_children: HashMap::new(), texts: Vec::new(), text_ends: vec![0] }
    }
}

impl Tree {
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Returns the beginning of the line of a node, if it is stored.
    pub(super) fn text(&self, id: NodeId) -> Option<&[u8]> {
        let place = id as usize;
        let from = *self.text_ends.get(place.checked_sub(1)?)?;
        self.texts.get(from..*self.text_ends.get(place)?)
    }

    /// Returns the node after one more line, with this hash and this beginning, and creates it if needed.
    pub(super) fn step(&mut self, from: NodeId, hash: u64, text: &[u8]) -> NodeId {
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
        // Once a text did not fit, those after it have no place.
        if self.texts.len() + text.len() <= MAX_TEXT_BYTES && self.text_ends.len() + 1 == self.nodes.len() {
            self.texts.extend_from_slice(text);
            self.text_ends.push(self.texts.len());
        }
        if first == NONE {
            self.nodes[from as usize].first_child = id;
        } else {
            self.more_children.insert((from, hash), id);
        }
        id
    }

    /// Returns the number of lines before a node.
    pub(super) fn depth(&self, id: NodeId) -> u32 {
        self.node(id).depth
    }

    /// Returns the ancestor of `id` at a depth.
    pub(super) fn ancestor(&self, mut id: NodeId, depth: u32) -> NodeId {
        while self.node(id).depth > depth {
            let node = self.node(id);
            id = if self.node(node.jump).depth >= depth { node.jump } else { node.parent };
        }
        id
    }

    /// Reports whether the lines of `upper` are a prefix of the lines of `lower`.
    pub(super) fn is_prefix(&self, upper: NodeId, lower: NodeId) -> bool {
        self.depth(upper) <= self.depth(lower) && self.ancestor(lower, self.depth(upper)) == upper
    }

    /// Returns the number of lines that two nodes have in common.
    pub(super) fn common(&self, left: NodeId, right: NodeId) -> u32 {
        let depth = self.depth(left).min(self.depth(right));
        let (mut a, mut b) = (self.ancestor(left, depth), self.ancestor(right, depth));
        while a != b {
            let (up, down) = (self.node(a), self.node(b));
            // Nodes of equal depth have jumps of equal length.
            (a, b) = if up.jump == down.jump { (up.parent, down.parent) } else { (up.jump, down.jump) };
        }
        self.depth(a)
    }

    /// Returns the approximate size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.more_children.capacity() * (size_of::<(NodeId, u64)>() + size_of::<NodeId>() + 1)
            + self.texts.capacity()
            + self.text_ends.capacity() * size_of::<usize>()
    }
}
