//! Converts a line to what a terminal shows: applies carriage returns and backspaces, and removes escape
//! sequences.

use std::borrow::Cow;

/// Returns the text that a terminal shows for a line without its newline. Most lines contain no control
/// characters, and are returned without a copy.
#[must_use]
pub(crate) fn shown_line(line: &[u8]) -> Cow<'_, [u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.iter().any(|byte| matches!(byte, b'\r' | 0x08 | 0x1b)) {
        return Cow::Borrowed(line);
    }
    let plain = without_escapes(line);
    if !plain.iter().any(|byte| matches!(byte, b'\r' | 0x08)) {
        return Cow::Owned(plain);
    }
    // Each character replaces the one under the cursor, so that a progress bar collapses to its last state.
    let mut cells: Vec<char> = Vec::new();
    let mut cursor = 0usize;
    for sign in String::from_utf8_lossy(&plain).chars() {
        match sign {
            '\r' => cursor = 0,
            '\x08' => cursor = cursor.saturating_sub(1),
            sign => {
                match cells.get_mut(cursor) {
                    Some(cell) => *cell = sign,
                    None => cells.push(sign),
                }
                cursor += 1;
            }
        }
    }
    Cow::Owned(cells.into_iter().collect::<String>().into_bytes())
}

fn without_escapes(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| *byte == 0x1b) {
        plain.extend_from_slice(&rest[..at]);
        rest = behind_escape(&rest[at + 1..]);
    }
    plain.extend_from_slice(rest);
    plain
}

/// Returns the bytes after an escape sequence. `rest` begins after its ESC.
fn behind_escape(rest: &[u8]) -> &[u8] {
    let after = |length: usize| rest.get(length..).unwrap_or_default();
    match rest.first() {
        // CSI: parameters, then one final byte.
        Some(b'[') => match rest.iter().skip(1).position(|byte| (0x40..=0x7e).contains(byte)) {
            Some(last) => after(last + 2),
            None => &[],
        },
        // OSC, DCS, SOS, PM, APC: a string that ends with BEL or ST.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = rest.iter().position(|byte| matches!(byte, 0x07 | 0x1b));
            match end {
                Some(at) if rest[at] == 0x1b => after(at + 2),
                Some(at) => after(at + 1),
                None => &[],
            }
        }
        // Intermediate bytes, then a final one.
        Some(0x20..=0x2f) => match rest.iter().position(|byte| (0x30..=0x7e).contains(byte)) {
            Some(last) => after(last + 1),
            None => &[],
        },
        Some(_) => after(1),
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_a_terminal_shows_of_it() {
        for (line, shown) in [
            ("plain", "plain"),
            ("dos\r", "dos"),
            ("\x1b[1;31mred\x1b[0m", "red"),
            (" 10%\r 50%\r100%", "100%"),
            ("100%\rok", "ok0%"),
            ("abc\x08\x08X", "aXc"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b(Bx\x1b7y", "xy"),
            ("cut\x1b[3", "cut"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&shown_line(line.as_bytes())), shown, "{line:?}");
        }
    }
}
