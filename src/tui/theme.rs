//! Colours and glyphs. Everything that they show is shown in words too. By default the screen uses only the sixteen colours of the
//! terminal, so that it fits the user's theme.

use std::borrow::Cow;

use ratatui::style::{Color, Modifier, Style};

use super::{
    palette::{Colours, Palette, Rgb},
    settings::ColorDepth,
};
use crate::domain::{
    sign::{Meaning, Sign},
    text::displayable,
};

/// The meaning of a style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// Everything is in order.
    Good,
    /// Something needs attention.
    Bad,
    /// Something is waiting.
    Waiting,
    /// A task is running.
    Running,
    /// Secondary text.
    Dim,
    /// A title.
    Strong,
    /// A key that can be pressed.
    Key,
    /// The row under the cursor in the focused pane.
    Cursor,
    /// What was searched for, or what differs in a line.
    Match,
    /// The name of an agent, as an index into the name colours.
    Name(usize),
}

/// The appearance of the screen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    /// The number of colours.
    pub depth: ColorDepth,
    /// The colours.
    pub palette: Palette,
    /// Whether only ASCII glyphs are used.
    pub ascii: bool,
    /// Whether the terminal takes UTF-8.
    pub is_utf8: bool,
    /// Whether everything is dimmed, because the shown data may be out of date.
    pub is_stale: bool,
}

/// The colours of agent names, readable on dark and on light backgrounds.
const NAMES: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::Blue, Color::LightCyan];

impl Theme {
    /// Returns the colours of the palette, if there are enough to show them.
    fn colours(self) -> Option<&'static Colours> {
        self.palette.colours().filter(|_| matches!(self.depth, ColorDepth::Indexed | ColorDepth::True))
    }

    fn rgb(self, [red, green, blue]: Rgb) -> Color {
        self.colour(Color::Rgb(red, green, blue)).unwrap_or(Color::Reset)
    }

    /// Returns the style of a cell without contents.
    #[must_use]
    pub(crate) fn base(self) -> Style {
        match self.colours() {
            Some(colours) => Style::reset().fg(self.rgb(colours.plain)).bg(self.rgb(colours.back)),
            None => Style::reset(),
        }
    }

    /// Returns the style of a tone.
    #[must_use]
    pub(crate) fn style(self, tone: Tone) -> Style {
        let style = match self.colours() {
            Some(colours) => self.coloured(tone, colours),
            None => self.in_terminal_colours(tone),
        };
        if self.is_stale { style.add_modifier(Modifier::DIM) } else { style }
    }

    /// Returns the style of a tone in the colours of a palette.
    fn coloured(self, tone: Tone, colours: &Colours) -> Style {
        let plain = Style::default();
        let of = |colour: Rgb| plain.fg(self.rgb(colour));
        match tone {
            Tone::Plain => of(colours.plain),
            Tone::Good => of(colours.good),
            Tone::Bad => of(colours.bad).add_modifier(Modifier::BOLD),
            Tone::Waiting => of(colours.waiting),
            Tone::Running => of(colours.running),
            Tone::Dim => of(colours.dim),
            Tone::Strong => of(colours.plain).add_modifier(Modifier::BOLD),
            Tone::Key => of(colours.key).add_modifier(Modifier::BOLD),
            Tone::Match => plain.fg(self.rgb([0, 0, 0])).bg(self.rgb(colours.marked)),
            Tone::Cursor => plain.add_modifier(Modifier::REVERSED),
            Tone::Name(place) => of(colours.names[place % colours.names.len()]),
        }
    }

    /// Returns the style of a tone in the sixteen colours of the terminal, whose background is unknown.
    fn in_terminal_colours(self, tone: Tone) -> Style {
        let plain = Style::default();
        let coloured = |colour: Color| if self.depth == ColorDepth::None { plain } else { plain.fg(colour) };
        match tone {
            Tone::Plain => plain,
            Tone::Good => coloured(Color::Green),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Waiting => coloured(Color::Yellow),
            Tone::Running => coloured(Color::Cyan),
            Tone::Dim => plain.add_modifier(Modifier::DIM),
            Tone::Strong => plain.add_modifier(Modifier::BOLD),
            Tone::Key => coloured(Color::Cyan).add_modifier(Modifier::BOLD),
            Tone::Match if self.depth == ColorDepth::None => {
                plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            }
            Tone::Match => plain.fg(Color::Black).bg(Color::Yellow),
            Tone::Cursor => plain.add_modifier(Modifier::REVERSED),
            Tone::Name(place) => coloured(NAMES[place % NAMES.len()]),
        }
    }

    /// Returns a style of a command's output, reduced to the available colours.
    #[must_use]
    pub(crate) fn output(self, style: Style) -> Style {
        // A background of the command's own was chosen together with its colours.
        let readable = |colour: Color| match (self.colours(), style.bg) {
            (Some(colours), None) => self.readable(colour, colours),
            _ => colour,
        };
        let fg = style.fg.map(readable).and_then(|colour| self.colour(colour));
        let bg = style.bg.and_then(|colour| self.colour(colour));
        let style = Style { fg, bg, ..style };
        if self.is_stale { style.add_modifier(Modifier::DIM) } else { style }
    }

    /// Returns a colour of a command's output, of which the sixteen take that of the palette: their own may not be readable on its
    /// background.
    fn readable(self, colour: Color, colours: &Colours) -> Color {
        let known = match colour {
            Color::Indexed(index @ 0..16) => SIXTEEN[usize::from(index)].0,
            colour => colour,
        };
        let rgb = match known {
            Color::Black | Color::White | Color::Gray => colours.plain,
            Color::DarkGray => colours.dim,
            Color::Red | Color::LightRed => colours.bad,
            Color::Green | Color::LightGreen => colours.good,
            Color::Yellow | Color::LightYellow => colours.waiting,
            Color::Blue | Color::LightBlue => colours.key,
            Color::Magenta | Color::LightMagenta => colours.names[2],
            Color::Cyan | Color::LightCyan => colours.running,
            other => return other,
        };
        self.rgb(rgb)
    }

    fn colour(self, colour: Color) -> Option<Color> {
        match (self.depth, colour) {
            (ColorDepth::None, _) => None,
            (ColorDepth::Sixteen, Color::Rgb(red, green, blue)) => Some(nearest(red, green, blue)),
            (ColorDepth::Sixteen, Color::Indexed(index)) => Some(nearest_indexed(index)),
            (ColorDepth::Indexed, Color::Rgb(red, green, blue)) => {
                Some(Color::Indexed(cube_index(red, green, blue)))
            }
            (_, colour) => Some(colour),
        }
    }

    /// Returns the character that this terminal shows for a character of a command's output. A terminal whose characters are
    /// single bytes would take some bytes of others as control characters.
    #[must_use]
    pub(crate) fn sign_of_output(self, sign: char) -> char {
        if self.is_utf8 || sign.is_ascii() { sign } else { '?' }
    }

    /// Returns the text in characters that this terminal can show, each with a width on which terminals agree.
    #[must_use]
    pub(crate) fn text(self, text: &str) -> Cow<'_, str> {
        let text = displayable(text);
        if !self.ascii || text.is_ascii() {
            return text;
        }
        let mut plain = String::with_capacity(text.len());
        for sign in text.chars() {
            if let Some(control @ 0..=0x1f) = u32::from(sign).checked_sub(0x2400) {
                plain.push('^');
                plain.extend(char::from_u32(control + 0x40));
                continue;
            }
            plain.push_str(match sign {
                '●' => "*",
                '◐' | '─' | '·' => "-",
                '○' => "o",
                '◇' | '┬' | '┴' | '┷' | '┼' => "+",
                '▽' => "v",
                '▸' => ">",
                '▌' => "]",
                '✓' => "ok",
                '✗' => "x",
                '⊘' => "/",
                '━' => "=",
                '│' | '▏' => "|",
                '…' => "~",
                '→' => "->",
                '←' => "<-",
                '↑' => "Up",
                '↓' => "Down",
                other => {
                    plain.push(self.sign_of_output(other));
                    continue;
                }
            });
        }
        Cow::Owned(plain)
    }

    /// Returns the mark that replaces the end of a cut text.
    #[must_use]
    pub(crate) fn mark(self) -> &'static str {
        if self.ascii { "~" } else { "…" }
    }
}

impl From<Sign> for Tone {
    fn from(sign: Sign) -> Self {
        match sign.meaning {
            Meaning::Good => Self::Good,
            Meaning::Bad => Self::Bad,
            Meaning::Waiting => Self::Waiting,
            Meaning::Running => Self::Running,
        }
    }
}

/// Returns the tone of an agent's name, which is always the same for the same name.
#[must_use]
pub(crate) fn name_tone(name: &str) -> Tone {
    let hash = name.bytes().fold(7usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
    Tone::Name(hash % NAMES.len())
}

/// The sixteen colours as terminals commonly show them.
const SIXTEEN: [(Color, [u8; 3]); 16] = [
    (Color::Black, [0, 0, 0]),
    (Color::Red, [205, 0, 0]),
    (Color::Green, [0, 205, 0]),
    (Color::Yellow, [205, 205, 0]),
    (Color::Blue, [0, 0, 238]),
    (Color::Magenta, [205, 0, 205]),
    (Color::Cyan, [0, 205, 205]),
    (Color::Gray, [229, 229, 229]),
    (Color::DarkGray, [127, 127, 127]),
    (Color::LightRed, [255, 0, 0]),
    (Color::LightGreen, [0, 255, 0]),
    (Color::LightYellow, [255, 255, 0]),
    (Color::LightBlue, [92, 92, 255]),
    (Color::LightMagenta, [255, 0, 255]),
    (Color::LightCyan, [0, 255, 255]),
    (Color::White, [255, 255, 255]),
];

fn nearest(red: u8, green: u8, blue: u8) -> Color {
    let distance = |known: &[u8; 3]| -> u32 {
        known.iter().zip([red, green, blue]).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    let found = SIXTEEN.iter().min_by_key(|(_, known)| distance(known));
    found.map_or(Color::Gray, |(colour, _)| *colour)
}

/// The levels of the 6x6x6 cube in the 256 colours.
const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];

fn nearest_indexed(index: u8) -> Color {
    match index {
        0..16 => SIXTEEN[usize::from(index)].0,
        16..232 => {
            let at = index - 16;
            let level = |place: u8| LEVELS[usize::from(place)];
            nearest(level(at / 36), level(at / 6 % 6), level(at % 6))
        }
        _ => {
            let grey = 8 + (index - 232) * 10;
            nearest(grey, grey, grey)
        }
    }
}

fn cube_index(red: u8, green: u8, blue: u8) -> u8 {
    let place = |value: u8| -> u8 {
        let nearest = (0u8..6).min_by_key(|place| LEVELS[usize::from(*place)].abs_diff(value));
        nearest.unwrap_or(0)
    };
    16 + 36 * place(red) + 6 * place(green) + place(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_gets_no_more_colours_than_there_are() {
        let theme =
            |depth| Theme { depth, palette: Palette::Terminal, ascii: false, is_utf8: true, is_stale: false };
        let style = Style::default().fg(Color::Rgb(250, 10, 5));
        assert_eq!(theme(ColorDepth::None).output(style).fg, None);
        assert_eq!(theme(ColorDepth::Sixteen).output(style).fg, Some(Color::LightRed));
        assert_eq!(theme(ColorDepth::Indexed).output(style).fg, Some(Color::Indexed(196)));
        assert_eq!(theme(ColorDepth::True).output(style).fg, style.fg);
        let indexed = Style::default().fg(Color::Indexed(208));
        assert_eq!(theme(ColorDepth::Sixteen).output(indexed).fg, Some(Color::Yellow));
    }

    #[test]
    fn ascii_has_a_sign_for_every_glyph() {
        let theme = Theme {
            depth: ColorDepth::None,
            palette: Palette::Terminal,
            ascii: true,
            is_utf8: true,
            is_stale: false,
        };
        assert_eq!(theme.text("● ◐ ○ ◇ ▽ ▸ ~ ✓ ✗ ⊘ ?"), "* - o + v > ~ ok x / ?");
        assert_eq!(theme.text("a␉b␛"), "a^Ib^[");
    }
}
