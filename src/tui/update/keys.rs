//! Decides which keys act. Text that is pasted or typed in the wrong place must not start, stop, save or load anything,
//! so keys with such effects act only when no other key comes with them.

use std::time::Duration;

use crossterm::event::KeyCode;

use super::{
    super::{
        keymap::{self, Action, Context, Key},
        model::{
            Model, Overlay, PromptKind,
            burst::{Effect, Field, Held, MAX_GAP},
        },
        msg::Cmd,
    },
    act, answers, editing, prompts, questions, text_area,
};

/// The time between two letters of a word that a person types. A `y` that is followed sooner is no answer.
const WORD_GAP: Duration = Duration::from_millis(250);

/// Handles a key.
pub(super) fn press(model: &mut Model, key: Key, cmds: &mut Vec<Cmd>) {
    // The keyboard may have been quiet for long enough before this key.
    quiet(model, cmds);
    let now = model.now.monotonic;
    let field = model.field();
    model.burst.arrive(key, now, field);
    if let Some(held) = model.burst.held.take() {
        overtaken(model, held, key, cmds);
    }
    if let Some(Overlay::Question(_)) = model.overlays.last() {
        return in_question(model, key);
    }
    match model.field() {
        Some(field) => in_field(model, field, key, cmds),
        None => outside(model, key, cmds),
    }
}

/// Handles a paste that the terminal has marked.
pub(super) fn paste(model: &mut Model, text: &str, cmds: &mut Vec<Cmd>) {
    quiet(model, cmds);
    let field = model.field();
    model.burst.arrive_paste(model.now.monotonic, field);
    let held = model.burst.held.take();
    if held.is_some_and(|held| matches!(held.effect, Effect::Act(Action::Execute) | Effect::TooSoon)) {
        insert_newline(model, field);
    }
    editing::paste(model, text);
}

/// Handles the time after the last key: a key that waited acts, since no other one followed.
pub(super) fn quiet(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let now = model.now.monotonic;
    if model.burst.due().is_none_or(|due| now < due) {
        return;
    }
    if let Some(key) = model.burst.dropped.take()
        && !model.burst.is_inserted
    {
        model.complain(format!("{key} came together with other keys and did nothing; press it alone"));
    }
    let Some(held) = model.burst.held.take_if(|held| held.due <= now) else { return };
    if held.context != model.context() {
        return;
    }
    match held.effect {
        Effect::Act(action) => act::try_to(model, action, cmds),
        Effect::Agree => {
            if let Some(agreed) = questions::agree(model) {
                answers::perform(model, agreed, cmds);
            }
        }
        Effect::TooSoon => {
            model.complain("Enter came together with other keys and did nothing; press it again");
        }
    }
}

/// Handles a key that waited, and that another key has followed.
fn overtaken(model: &mut Model, held: Held, next: Key, cmds: &mut Vec<Cmd>) {
    match (held.effect, held.context) {
        (Effect::Act(Action::Execute) | Effect::TooSoon, Context::Command) => {
            insert_newline(model, Some(Field::Command));
        }
        (Effect::Act(Action::Accept) | Effect::TooSoon, Context::Prompt) => {
            insert_newline(model, model.field());
        }
        // Automatic repetition.
        (Effect::Act(action), context) if held.key == next && action.is_repeatable() => {
            if context == model.context() {
                act::try_to(model, action, cmds);
            }
        }
        _ => model.burst.dropped = Some(held.key),
    }
}

/// Makes a key wait until it is clear that no other one follows.
fn hold(model: &mut Model, key: Key, effect: Effect, time: Duration) {
    let due = model.now.monotonic + time;
    model.burst.held = Some(Held { key, context: model.context(), effect, due });
}

fn in_question(model: &mut Model, key: Key) {
    if questions::is_early(model) {
        return;
    }
    if !questions::confirms(model, key) {
        questions::key(model, key);
    } else if model.burst.is_single() {
        // A letter may begin a word.
        let time = if key.typed().is_some() { WORD_GAP } else { MAX_GAP };
        hold(model, key, Effect::Agree, time);
    } else {
        model.burst.dropped = Some(key);
    }
}

fn in_field(model: &mut Model, field: Field, key: Key, cmds: &mut Vec<Cmd>) {
    let context = model.context();
    if context == Context::Command && model.command.has_prefix {
        model.command.has_prefix = false;
        if key.ctrl && key.code == KeyCode::Char('e') && model.burst.is_single() {
            act::try_to(model, Action::Editor, cmds);
        }
        return;
    }
    if model.burst.is_text() {
        return in_text(model, field, key);
    }
    match keymap::find(context, key).map(|binding| binding.action) {
        Some(action @ (Action::Execute | Action::Accept)) => enter(model, field, key, action, cmds),
        Some(action) if action.needs_care() && model.burst.is_single() => {
            hold(model, key, Effect::Act(action), MAX_GAP);
        }
        Some(action) if action.needs_care() => model.burst.dropped = Some(key),
        Some(action) => act::try_to(model, action, cmds),
        None if key.alt && !text_area::edits_with_alt(key) => {
            // In tmux, Escape and a key that follows soon arrive as Alt with that key.
            act::try_to(
                model,
                if context == Context::Command { Action::Leave } else { Action::Abandon },
                cmds,
            );
            press_without_alt(model, key, cmds);
        }
        None => match context {
            Context::Command => editing::command_key(model, key),
            _ => prompts::key(model, key),
        },
    }
}

/// Handles the key of an Alt combination that stands for Escape and then this key.
fn press_without_alt(model: &mut Model, key: Key, cmds: &mut Vec<Cmd>) {
    let key = key.without_alt();
    match model.field() {
        Some(field) => in_field(model, field, key, cmds),
        None => outside(model, key, cmds),
    }
}

/// Handles a key of a text that arrives in a burst: it is inserted, and its control characters do nothing.
fn in_text(model: &mut Model, field: Field, key: Key) {
    match key.pasted() {
        Some('\n') => hold(model, key, Effect::TooSoon, MAX_GAP),
        Some(sign) => editing::insert(model, field, sign),
        None if key.code == KeyCode::Backspace => match field {
            Field::Command => editing::command_key(model, key),
            Field::Prompt(_) => prompts::key(model, key),
        },
        None => {}
    }
}

/// Handles Enter in a field: it has an effect only when no other key came shortly before or after it, and the field had
/// the focus before.
fn enter(model: &mut Model, field: Field, key: Key, action: Action, cmds: &mut Vec<Cmd>) {
    let is_harmless =
        matches!(field, Field::Prompt(PromptKind::Filter | PromptKind::Search | PromptKind::HistoryFilter));
    let before = if is_harmless { Duration::ZERO } else { model.settings.quiet_before };
    let was_quiet = model.burst.was_quiet_for(before) && model.burst.field == Some(field);
    let effect = if was_quiet { Effect::Act(action) } else { Effect::TooSoon };
    let after = model.settings.quiet_after;
    if after.is_zero() && was_quiet {
        return act::try_to(model, action, cmds);
    }
    hold(model, key, effect, after.max(Duration::from_millis(1)));
}

fn outside(model: &mut Model, key: Key, cmds: &mut Vec<Cmd>) {
    if model.burst.is_text() {
        return outside_text(model, key);
    }
    let now = model.now.monotonic;
    let context = model.context();
    let is_letter = key.typed().is_some();
    if model.burst.is_locked(now) && (is_letter || key.code == KeyCode::Enter) {
        return model.burst.lock(now);
    }
    if key.code == KeyCode::Esc {
        model.burst.unlock();
    }
    match keymap::find(context, key).map(|binding| binding.action) {
        Some(action) if !model.needs_care(action) => act::try_to(model, action, cmds),
        Some(action) if model.burst.is_single() || model.burst.is_repeated() && action.is_repeatable() => {
            hold(model, key, Effect::Act(action), MAX_GAP);
        }
        Some(_) => model.burst.dropped = Some(key),
        None if key.alt => {
            act::try_to(model, Action::Close, cmds);
            press_without_alt(model, key, cmds);
        }
        None if is_letter => {
            model.burst.lock(now);
            let to = if model.settings.read_only { "" } else { "; i goes to the command line" };
            model.complain(format!("{key} does nothing here{to}. Letters are ignored for a second"));
        }
        None => {}
    }
}

/// Inserts a burst of text into the command line, where it waits for Enter.
fn outside_text(model: &mut Model, key: Key) {
    if model.settings.read_only {
        if !std::mem::replace(&mut model.burst.is_inserted, true) {
            model.complain("this is --read-only: there is no command line");
        }
        return;
    }
    if model.burst.is_inserted && key.pasted().is_none() {
        return;
    }
    // Keys that moved a cursor before the burst was known to be text are part of it.
    let text = if model.burst.is_inserted { String::from_iter(key.pasted()) } else { model.burst.text() };
    model.burst.is_inserted = true;
    editing::paste(model, &text);
    model.say("pasted into the command line, where it waits for Enter");
    if text.ends_with('\n') {
        hold(model, key, Effect::TooSoon, MAX_GAP);
    }
}

/// Inserts a line break into the command line, or a space into a prompt, which has only one line.
fn insert_newline(model: &mut Model, field: Option<Field>) {
    match field {
        Some(field @ Field::Command) => editing::insert(model, field, '\n'),
        Some(field @ Field::Prompt(_)) => editing::insert(model, field, ' '),
        None => {}
    }
}
