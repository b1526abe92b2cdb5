//! Prepares text from other machines for a terminal: removes control characters and cuts it to a width in
//! cells.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Reports whether a character could change the order or the look of the text around it: control characters,
/// line separators, directional marks (Unicode's `Bidi_Control`) and invisible tags.
#[must_use]
pub fn is_harmful(sign: char) -> bool {
    sign.is_control()
        || matches!(
            sign,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Replaces every harmful character with a space. For names and reasons from other machines.
#[must_use]
pub fn strip_control(text: &str) -> String {
    text.chars().map(|sign| if is_harmful(sign) { ' ' } else { sign }).collect()
}

/// Returns a text as screens show it: without the characters about whose width terminals disagree. Harmful characters and
/// fillers become spaces; variation selectors, joiners and skin tones are left out, so that each character has the width
/// that it has alone, and only combining characters have none.
#[must_use]
pub fn displayable(text: &str) -> Cow<'_, str> {
    let is_kept = |sign: char| matches!(on_screen(sign), Some(shown) if shown == sign);
    if text.is_ascii() && !text.contains(is_harmful) || text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter_map(on_screen).collect())
}

/// Returns the character that is shown for a character; `None` if it is left out.
#[must_use]
pub fn on_screen(sign: char) -> Option<char> {
    match sign {
        // Blank letters: some terminals give them two cells, others none.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => Some(' '),
        // Joiners, variation selectors, and skin tones.
        '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2064}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0100}'..='\u{e01ef}' => None,
        sign if is_harmful(sign) => Some(' '),
        sign => Some(sign),
    }
}

/// Breaks a text into lines of at most `room` cells, at spaces if possible.
#[must_use]
pub fn wrapped(text: &str, room: usize) -> Vec<String> {
    textwrap::wrap(text, room.max(1)).into_iter().map(Cow::into_owned).collect()
}

/// Makes harmful characters visible: control characters as pictures (`␉`), others by their number (`<U+202E>`). For
/// texts that are shown because they will run.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        match sign {
            '\0'..='\x1f' => shown.extend(char::from_u32(0x2400 + u32::from(sign))),
            '\x7f' => shown.push('\u{2421}'),
            sign if is_harmful(sign) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "<U+{:04X}>", u32::from(sign));
            }
            sign => shown.push(sign),
        }
    }
    Cow::Owned(shown)
}

/// Returns the width of a text in terminal cells.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// Returns the longest beginning of a text that fits into a number of cells, and the cells that it takes.
#[must_use]
pub fn beginning(text: &str, room: usize) -> (&str, usize) {
    let mut used = 0;
    for (at, sign) in text.char_indices() {
        let wide = sign.width().unwrap_or(0);
        if used + wide > room {
            return (&text[..at], used);
        }
        used += wide;
    }
    (text, used)
}

/// Cuts a text at its end to at most `room` cells, with a mark where it was cut.
#[must_use]
pub fn clipped(text: &str, room: usize, mark: &str) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let (start, _) = beginning(text, room.saturating_sub(mark.width()));
    if room < mark.width() { String::new() } else { format!("{start}{mark}") }
}

/// Returns a text, cut or padded with spaces to an exact number of cells.
#[must_use]
pub fn pad_to_width(text: &str, room: usize, mark: &str) -> String {
    let mut text = clipped(text, room, mark);
    let missing = room.saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// Cuts a text in its middle to at most `room` cells. For folded names, whose end shows the last name.
#[must_use]
pub fn middle_clipped(text: &str, room: usize, mark: &str) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let room = room.saturating_sub(mark.width());
    let (start, used) = beginning(text, room.div_ceil(2));
    let mut end = text.len();
    let mut left = room - used;
    for (at, sign) in text.char_indices().rev() {
        let wide = sign.width().unwrap_or(0);
        if wide > left || at < start.len() {
            break;
        }
        left -= wide;
        end = at;
    }
    format!("{start}{mark}{}", &text[end..])
}

/// Formats a number of bytes for people: `412 B`, `3.1 kB`, `24 MB`, in powers of 1000.
#[must_use]
pub fn spoken_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut whole, mut rest, mut unit) = (bytes / 1000, bytes % 1000, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        (whole, rest, unit) = (whole / 1000, whole % 1000, unit + 1);
    }
    if whole < 10 {
        format!("{whole}.{} {}", rest / 100, UNITS[unit])
    } else {
        format!("{whole} {}", UNITS[unit])
    }
}

/// Returns a noun in the singular or plural form for a count: `1 agent`, `2 agents`, `2 processes`.
#[must_use]
pub fn plural(noun: &str, count: usize) -> String {
    let ending = if noun.ends_with('s') { "es" } else { "s" };
    if count == 1 { noun.to_owned() } else { format!("{noun}{ending}") }
}

/// Returns the form of a verb or phrase for a count: `one` for 1, else `many`.
#[must_use]
pub fn form<'a, N: PartialEq + From<u8>>(count: N, one: &'a str, many: &'a str) -> &'a str {
    if count == N::from(1) { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shown_character_has_the_width_that_it_has_alone() {
        for (text, shown) in [
            ("\u{26a0}\u{fe0f} careful", "\u{26a0} careful"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{1112}\u{1161}\u{11ab}"),
            ("a\u{3164}b", "a b"),
            ("👩\u{200d}💻👍🏽", "👩💻👍"),
            ("e\u{301}", "e\u{301}"),
            ("a\x1bb\u{202e}c", "a b c"),
        ] {
            assert_eq!(displayable(text), shown);
            let alone: usize = displayable(text).chars().map(|sign| sign.width().unwrap_or(0)).sum();
            assert_eq!(width(&displayable(text)), alone, "{text:?}");
        }
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrapped("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn what_will_run_is_shown_with_its_control_characters() {
        for (text, shown) in [
            ("plain ä", "plain ä"),
            ("a\tb", "a␉b"),
            ("\x1b[31m", "␛[31m"),
            ("\x7f\0", "␡␀"),
            ("a\u{9b}b\u{202e}c", "a<U+009B>b<U+202E>c"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn texts_are_cut_by_cells() {
        for (text, room, cut) in [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("漢字x", 4, "漢…"), ("ab", 0, "")]
        {
            assert_eq!(clipped(text, room, "…"), cut, "{text} {room}");
        }
        assert_eq!(pad_to_width("漢", 4, "…"), "漢  ");
        assert_eq!(middle_clipped("web-[1,3-7,9-16,40]", 11, "…"), "web-[…6,40]");
        assert_eq!(middle_clipped("web-1", 5, "…"), "web-1");
    }

    #[test]
    fn words_follow_their_count() {
        assert_eq!((plural("agent", 1), plural("agent", 0)), ("agent".to_owned(), "agents".to_owned()));
        assert_eq!(
            (plural("process", 1), plural("process", 2)),
            ("process".to_owned(), "processes".to_owned())
        );
        assert_eq!((form(1_u32, "is", "are"), form(2_usize, "is", "are")), ("is", "are"));
    }

    #[test]
    fn bytes_are_said_in_one_unit() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (3_100, "3.1 kB"), (24_000_000, "24 MB")] {
            assert_eq!(spoken_bytes(bytes), text);
        }
    }
}
