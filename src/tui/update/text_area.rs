//! The editing keys of a shell, in any text area.

use crossterm::event::KeyCode;
use tui_textarea::{CursorMove, TextArea};

use super::super::keymap::Key;

/// Edits a text as a shell does. The text area's own shortcuts are not used: its `^R`, `^U` and `^J` mean other things.
pub(super) fn edit(text: &mut TextArea<'static>, key: Key) {
    if let Some(sign) = key.typed() {
        text.insert_char(sign);
        return;
    }
    if key.alt {
        match key.code {
            KeyCode::Char('b') | KeyCode::Left => text.move_cursor(CursorMove::WordBack),
            KeyCode::Char('f') | KeyCode::Right => text.move_cursor(CursorMove::WordForward),
            KeyCode::Char('d') => drop(text.delete_next_word()),
            KeyCode::Backspace => drop(text.delete_word()),
            _ => {}
        }
        return;
    }
    match (key.code, key.ctrl) {
        (KeyCode::Char('a'), true) | (KeyCode::Home, _) => text.move_cursor(CursorMove::Head),
        (KeyCode::Char('e'), true) | (KeyCode::End, _) => text.move_cursor(CursorMove::End),
        (KeyCode::Char('b'), true) | (KeyCode::Left, false) => text.move_cursor(CursorMove::Back),
        (KeyCode::Char('f'), true) | (KeyCode::Right, false) => text.move_cursor(CursorMove::Forward),
        (KeyCode::Left, true) => text.move_cursor(CursorMove::WordBack),
        (KeyCode::Right, true) => text.move_cursor(CursorMove::WordForward),
        (KeyCode::Char('u'), true) => drop(text.delete_line_by_head()),
        (KeyCode::Char('k'), true) => drop(text.delete_line_by_end()),
        (KeyCode::Char('w'), true) => drop(text.delete_word()),
        (KeyCode::Char('y'), true) => drop(text.paste()),
        (KeyCode::Char('h'), true) | (KeyCode::Backspace, _) => drop(text.delete_char()),
        (KeyCode::Char('d'), true) | (KeyCode::Delete, _) => drop(text.delete_next_char()),
        _ => {}
    }
}

/// Reports whether a key with Alt edits text. Alt with any other key stands for Escape and then that key.
pub(super) fn edits_with_alt(key: Key) -> bool {
    matches!(key.code, KeyCode::Char('b' | 'f' | 'd') | KeyCode::Left | KeyCode::Right | KeyCode::Backspace)
}
