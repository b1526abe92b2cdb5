//! `config show|example`.

use crate::cli::{
    args::{
        Format,
        settings::{ConfigShowArgs, ConfigVerb},
    },
    config::{EXAMPLE, Settings},
    exit::{self, Failure, Status},
    json::{Document, SettingList},
    output::{print_json_ignoring_closed, say},
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
        print_json_ignoring_closed(args.output, &Document::new(SettingList::new(&all)))?;
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
