//! `config show|example`.

use serde_json::{Value, json};

use crate::cli::{
    args::{
        Format,
        settings::{ConfigShowArgs, ConfigVerb},
    },
    config::{EXAMPLE, Settings},
    exit::{self, Failure, Status},
    output::{say, say_json},
};

pub(super) fn perform(verb: &ConfigVerb) -> Result<Status, Failure> {
    match verb {
        ConfigVerb::Example => say(EXAMPLE)?,
        ConfigVerb::Show(args) => show(args)?,
    }
    Ok(exit::OK)
}

fn show(args: &ConfigShowArgs) -> Result<(), Failure> {
    let all = Settings::load()?.shown();
    if args.output != Format::Text {
        let shown = all.iter().map(|shown| {
            let value = shown.value.as_ref().and_then(|value| serde_json::to_value(value).ok());
            json!({ "section": shown.section, "key": shown.key, "value": value, "origin": shown.origin })
        });
        say_json(&Value::Array(shown.collect()))?;
        return Ok(());
    }
    let mut section = "";
    for shown in &all {
        if section != shown.section {
            let gap = if section.is_empty() { "" } else { "\n" };
            say(&format!("{gap}[{}]\n", shown.section))?;
            section = shown.section;
        }
        let line = match &shown.value {
            Some(value) => format!("{} = {value}", shown.key),
            None => format!("#{} is not set", shown.key),
        };
        let origin = if args.origin { format!("  # {}", shown.origin) } else { String::new() };
        say(&format!("{line}{origin}\n"))?;
    }
    Ok(())
}
