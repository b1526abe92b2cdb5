//! Cells of the screen: characters of any width stay in their cells, no control character reaches the terminal, and the cursor
//! keeps the colours of what it is on.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthChar as _;

use super::harness::{World, sketch, sketch_with};
use crate::tui::{
    palette::Palette,
    settings::{ColorDepth, Settings},
    view::view,
};

/// Lines with characters about whose width terminals disagree.
const LINES: &str = "\u{26a0}\u{fe0f} careful\n\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af} text\na\u{3164}b\u{ffa0}c\n\
     👩\u{200d}👩\u{200d}👧\u{200d}👦👍🏽🇩🇪1\u{fe0f}\u{20e3}\ne\u{301}\u{302}\u{303} \u{644}\u{627} \u{e01}\u{e33}\n\u{db}2J \u{9b}2J ÿ\n";

fn cells(world: &World) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, world.size.0, world.size.1));
    let _ = view(&world.model, &mut buffer);
    buffer
}

fn showing(settings: Settings, size: (u16, u16)) -> World {
    let mut world = sketch_with(size, settings);
    world.press("2 G Enter");
    world.print(|_| LINES);
    world
}

/// The number of cells that a terminal moves its cursor for a symbol: the sum of its characters.
fn advance(symbol: &str) -> u16 {
    u16::try_from(symbol.chars().map(|sign| sign.width().unwrap_or(0)).sum::<usize>()).unwrap()
}

#[test]
fn every_symbol_takes_the_cells_that_the_terminal_moves() {
    for left in ["", "l", "l h"] {
        for wrap in ["", "w"] {
            let mut world = showing(Settings::default(), (80, 24));
            world.press(left);
            world.press(wrap);
            let buffer = cells(&world);
            for y in 0..24 {
                let mut x = 0;
                while x < 80 {
                    let symbol = buffer.cell((x, y)).unwrap().symbol();
                    let wide = advance(symbol);
                    assert!(wide >= 1, "{x},{y}: {symbol:?} would stay on the cell before");
                    assert_eq!(usize::from(wide), crate::domain::text::width(symbol), "{symbol:?}");
                    for hidden in 1..wide {
                        assert_eq!(buffer.cell((x + hidden, y)).unwrap().symbol(), " ", "behind {symbol:?}");
                    }
                    x += wide;
                }
                assert_eq!(x, 80);
            }
        }
    }
    let world = showing(Settings::default(), (80, 24));
    for shown in [
        "\u{26a0} careful",
        "\u{1112}\u{1161}\u{11ab}",
        "a b c",
        "👩👩👧👦👍🇩🇪1\u{20e3}",
        "e\u{301}\u{302}\u{303}",
    ] {
        assert!(world.says(shown), "{shown:?}: {}", world.screen());
    }
}

#[test]
fn a_terminal_of_single_bytes_gets_ascii_only() {
    let settings = Settings { ascii: true, is_utf8: false, ..Settings::default() };
    for keys in ["1", "2", "2 v", "2 v v", "2 d", "2 Enter", "3", "1 Enter", "H", "?", ":", "@"] {
        let mut world = showing(settings.clone(), (120, 40));
        world.press("Esc Esc");
        world.press(keys);
        world.print(|_| LINES);
        for cell in cells(&world).content() {
            assert!(cell.symbol().is_ascii(), "{keys}: {:?}", cell.symbol());
        }
    }
    let mut world = showing(settings, (120, 40));
    world.press("Esc 3");
    world.write("ä\u{db}");
    assert!(world.says("$ ??"), "{}", world.screen());
}

#[test]
fn the_row_under_the_cursor_keeps_the_colour_of_its_failure() {
    let mut world = sketch((120, 40));
    world.press("2 g");
    let buffer = cells(&world);
    let (x, y) = world.model.layout.point.expect("the terminal's cursor is on the row");
    let glyph = buffer.cell((x, y)).unwrap();
    assert_eq!((glyph.symbol(), glyph.fg), ("✗", Color::Red));
    let all = (x..x + 40).all(|x| buffer.cell((x, y)).unwrap().modifier.contains(Modifier::REVERSED));
    assert!(all, "the whole row is marked");
}

#[test]
fn the_hidden_cursor_is_on_what_has_the_attention() {
    for (keys, is_shown) in [
        ("1", false),
        ("2", false),
        ("2 v", false),
        ("2 Enter", false),
        ("1 Enter", false),
        ("H", false),
        ("3", true),
        ("/", true),
    ] {
        let mut world = sketch((120, 40));
        world.press("1");
        world.press(keys);
        let layout = &world.model.layout;
        assert_eq!(layout.cursor.is_some(), is_shown, "{keys}");
        assert!(is_shown || layout.point.is_some(), "{keys}");
    }
    let mut world = sketch((120, 40));
    world.press("1 g");
    let first = world.model.layout.point.unwrap();
    world.press("j");
    assert_eq!(world.model.layout.point, Some((first.0, first.1 + 1)));
}

#[test]
fn a_palette_colours_every_cell_and_the_terminals_own_none() {
    for palette in Palette::ALL {
        let settings = Settings { palette, depth: ColorDepth::True, ..Settings::default() };
        for keys in ["1", "2", "2 d", "2 v", "2 v v", "2 Enter", "3", "1 Enter", "H", "?", ":", "2 X"] {
            let mut world = sketch_with((120, 40), settings.clone());
            world.press(keys);
            world.print(|_| "\x1b[33myellow\x1b[0m plain\n");
            let is_own = palette != Palette::Terminal;
            for cell in cells(&world).content() {
                assert_eq!(
                    cell.bg != Color::Reset,
                    is_own || cell.bg == Color::Yellow,
                    "{palette:?} {keys}: {cell:?}"
                );
                let is_readable = !is_own || matches!(cell.fg, Color::Rgb(..));
                assert!(is_readable, "{palette:?} {keys}: {cell:?}");
            }
        }
    }
    // With too few colours for it, a palette changes nothing.
    let shown =
        |palette, depth| cells(&showing(Settings { depth, palette, ..Settings::default() }, (80, 24)));
    for depth in [ColorDepth::None, ColorDepth::Sixteen] {
        assert_eq!(shown(Palette::Light, depth), shown(Palette::Terminal, depth));
    }
    let mut world = sketch((120, 40));
    world.press(":");
    world.write("next theme");
    world.press("Enter");
    assert_eq!(world.model.settings.palette, Palette::Dark);
}
