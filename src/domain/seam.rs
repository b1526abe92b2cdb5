//! Marks lines that are cut by a gap, so that the rest of such a line does not look like a line that a
//! command printed. Pure: writes nothing itself.

/// The end of a line whose rest is missing.
pub(crate) const CUT_END: &str = " …(bytes missing)";
/// The start of the first line after a gap, which may be only the end of a longer line.
pub(crate) const CUT_BEGIN: &str = "(bytes missing)… ";

/// The position of an output stream relative to lines and gaps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seam {
    is_mid_line: bool,
    is_behind_gap: bool,
}

impl Seam {
    /// Records that bytes are missing here. Returns the text that ends the line before the gap.
    #[must_use]
    pub(crate) fn gap(&mut self) -> String {
        self.is_behind_gap = true;
        if std::mem::take(&mut self.is_mid_line) { format!("{CUT_END}\n") } else { String::new() }
    }

    /// Records the next bytes. Returns the text to write before them.
    #[must_use]
    pub(crate) fn next(&mut self, data: &[u8]) -> &'static str {
        let Some(last) = data.last() else { return "" };
        self.is_mid_line = *last != b'\n';
        if std::mem::take(&mut self.is_behind_gap) { CUT_BEGIN } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_a_line_and_marks_the_next_one() {
        for (pieces, printed) in [
            (&["one\ntw", "GAP", "ee\nfour\n"][..], "one\ntw …(bytes missing)\n(bytes missing)… ee\nfour\n"),
            (&["one\n", "GAP", "two\n"], "one\n(bytes missing)… two\n"),
            (&["GAP", "two\n"], "(bytes missing)… two\n"),
            (&["tw", "GAP"], "tw …(bytes missing)\n"),
            (&["one\n", "GAP", "GAP", "", "x"], "one\n(bytes missing)… x"),
            (&["o", "ne\n", "two"], "one\ntwo"),
        ] {
            let mut seam = Seam::default();
            let text: String = pieces
                .iter()
                .map(|piece| match *piece {
                    "GAP" => seam.gap(),
                    piece => format!("{}{piece}", seam.next(piece.as_bytes())),
                })
                .collect();
            assert_eq!(text, printed, "{pieces:?}");
        }
    }
}
