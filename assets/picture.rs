//! Draws a terminal's screen, as `tmux capture-pane -e -p` prints it, as SVG. Used by `assets/picture`.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
};

use ratatui::style::{Color, Modifier, Style};
use sloth_runner::{
    domain::{frame::Stream, offset::OutputOffset, text::width},
    tui::output::{line::Line, maker::LineParser},
};

/// A cell's size.
const CELL: (usize, usize) = (8, 17);
/// Around the screen.
const MARGIN: usize = 12;
const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d4d7dd";

fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Red | Color::LightRed => "#f0646c",
        Color::Green | Color::LightGreen => "#6cc070",
        Color::Yellow | Color::LightYellow => "#d9b45a",
        Color::Blue | Color::LightBlue => "#6ea0f0",
        Color::Magenta | Color::LightMagenta => "#c586d8",
        Color::Cyan | Color::LightCyan => "#56b8c4",
        Color::DarkGray => "#7a7f89",
        Color::Black => BACKGROUND,
        _ => FOREGROUND,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A piece of one style, as SVG.
fn piece(svg: &mut String, text: &str, style: Style, x: usize, y: usize) {
    let cells = width(text);
    let is_reversed = style.add_modifier.contains(Modifier::REVERSED);
    let (mut fore, mut back) = (style.fg.map_or(FOREGROUND, colour), style.bg.map_or(BACKGROUND, colour));
    if is_reversed {
        std::mem::swap(&mut fore, &mut back);
    }
    let (left, top) = (MARGIN + x * CELL.0, MARGIN + y * CELL.1);
    // Writing to a string cannot fail.
    if back != BACKGROUND {
        let wide = cells * CELL.0;
        let _ =
            writeln!(svg, r#"<rect x="{left}" y="{top}" width="{wide}" height="{}" fill="{back}"/>"#, CELL.1);
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if style.add_modifier.contains(Modifier::BOLD) { r#" font-weight="bold""# } else { "" };
    let dim = if style.add_modifier.contains(Modifier::DIM) { r#" opacity="0.6""# } else { "" };
    let _ = writeln!(
        svg,
        r#"<text x="{left}" y="{}" textLength="{}" fill="{fore}"{weight}{dim} xml:space="preserve">{}</text>"#,
        top + 13,
        cells * CELL.0,
        escaped(text)
    );
}

fn main() -> io::Result<()> {
    let mut screen = Vec::new();
    io::stdin().read_to_end(&mut screen)?;
    let mut lines: Vec<Line> = Vec::new();
    LineParser::new(Stream::Stdout).feed(&screen, OutputOffset::START, 0, |line| lines.push(line));
    let columns = lines.iter().map(|line| width(&line.text)).max().unwrap_or(0);
    let (wide, tall) = (columns * CELL.0 + 2 * MARGIN, lines.len() * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13">
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
"#
    );
    for (y, line) in lines.iter().enumerate() {
        let (mut begin, mut x) = (0, 0);
        let plain = [(line.text.len(), Style::default())];
        let styles = if line.styles.is_empty() { &plain[..] } else { &line.styles[..] };
        for (end, style) in styles {
            // A piece a word, so that a font of another width shifts nothing far.
            for word in line.text[begin..*end].split_inclusive(' ') {
                piece(&mut svg, word, *style, x, y);
                x += width(word);
            }
            begin = *end;
        }
    }
    svg.push_str("</svg>\n");
    print!("{svg}");
    Ok(())
}
