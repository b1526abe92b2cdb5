//! The compiled protocol: every change of the wire format is visible in a snapshot, and the proto files
//! follow the conventions of buf's STANDARD set.

use std::{collections::BTreeSet, fmt::Write as _};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use sloth_runner::wire::proto;

fn files() -> Vec<FileDescriptorProto> {
    let set: FileDescriptorSet = prost::Message::decode(proto::DESCRIPTORS).unwrap();
    let own = |file: &FileDescriptorProto| file.package().starts_with("sloth.");
    set.file.into_iter().filter(own).collect()
}

/// Returns the messages of a file, nested ones included, each with its name.
fn messages(file: &FileDescriptorProto) -> Vec<(String, &DescriptorProto)> {
    fn collect<'a>(
        prefix: &str,
        messages: &'a [DescriptorProto],
        into: &mut Vec<(String, &'a DescriptorProto)>,
    ) {
        for message in messages {
            let name = format!("{prefix}.{}", message.name());
            collect(&name, &message.nested_type, into);
            into.push((name, message));
        }
    }
    let mut all = Vec::new();
    collect(file.package(), &file.message_type, &mut all);
    all
}

fn enums(file: &FileDescriptorProto) -> Vec<(String, &EnumDescriptorProto)> {
    let top = file.enum_type.iter().map(|kind| (format!("{}.{}", file.package(), kind.name()), kind));
    let messages = messages(file);
    let nested = messages.iter().flat_map(|(name, message)| {
        message.enum_type.iter().map(move |kind| (format!("{name}.{}", kind.name()), kind))
    });
    top.chain(nested.collect::<Vec<_>>()).collect()
}

fn describe_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        kind => kind.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let presence = match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => "repeated ",
        (_, true) => "optional ",
        _ => "",
    };
    let choice = match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            format!(" in {}", message.oneof_decl[usize::try_from(index).unwrap()].name())
        }
        _ => String::new(),
    };
    format!("{} {} {presence}{kind}{choice}", field.number(), field.name())
}

#[test]
fn every_change_of_the_wire_is_visible() {
    let mut text = String::new();
    for file in files() {
        for service in &file.service {
            for method in &service.method {
                let stream = |is_stream: bool| if is_stream { "stream " } else { "" };
                let message = |name: &str| name.trim_start_matches('.').to_owned();
                writeln!(
                    text,
                    "{}.{}/{}: {}{} -> {}{}",
                    file.package(),
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    message(method.input_type()),
                    stream(method.server_streaming()),
                    message(method.output_type()),
                )
                .unwrap();
            }
        }
        for (name, message) in messages(&file) {
            writeln!(text, "{name}").unwrap();
            for field in &message.field {
                writeln!(text, "  {}", describe_field(message, field)).unwrap();
            }
            for range in &message.reserved_range {
                writeln!(text, "  reserved {}-{}", range.start(), range.end() - 1).unwrap();
            }
        }
        for (name, kind) in enums(&file) {
            writeln!(text, "{name}").unwrap();
            for value in &kind.value {
                writeln!(text, "  {} {}", value.number(), value.name()).unwrap();
            }
        }
    }
    insta::assert_snapshot!(text);
}

fn is_lower_snake(name: &str) -> bool {
    name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_')
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric())
}

/// Returns the prefix of an enum's values: `LINK_KIND_` for `LinkKind`.
fn upper_snake(name: &str) -> String {
    let mut prefix = String::new();
    for sign in name.chars() {
        if sign.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(sign.to_ascii_uppercase());
    }
    prefix + "_"
}

#[test]
fn the_proto_files_follow_the_conventions() {
    let mut broken = Vec::new();
    let mut used = BTreeSet::new();
    for file in files().iter().filter(|file| file.package() == "sloth.v2") {
        let mut check = |holds: bool, rule: &str, on: &str| {
            if !holds {
                broken.push(format!("{}: {rule}: {on}", file.name()));
            }
        };
        check(file.name().starts_with("sloth/v2/"), "the directory is the package", file.package());
        check(file.syntax() == "proto3", "the syntax is proto3", file.syntax());
        for service in &file.service {
            check(
                is_pascal(service.name()) && service.name().ends_with("Service"),
                "SERVICE_SUFFIX",
                service.name(),
            );
            for method in &service.method {
                for (message, suffix) in
                    [(method.input_type(), "Request"), (method.output_type(), "Response")]
                {
                    let wanted = format!(".sloth.v2.{}{suffix}", method.name());
                    check(
                        message == wanted,
                        "RPC_REQUEST_STANDARD_NAME, RPC_RESPONSE_STANDARD_NAME",
                        message,
                    );
                    check(used.insert(message.to_owned()), "RPC_REQUEST_RESPONSE_UNIQUE", message);
                }
            }
        }
        for (name, message) in messages(file) {
            check(is_pascal(message.name()), "MESSAGE_PASCAL_CASE", &name);
            for field in &message.field {
                check(
                    is_lower_snake(field.name()),
                    "FIELD_LOWER_SNAKE_CASE",
                    &format!("{name}.{}", field.name()),
                );
            }
            for choice in &message.oneof_decl {
                // Oneofs that the compiler generates for `optional` begin with an underscore.
                check(
                    is_lower_snake(choice.name()),
                    "ONEOF_LOWER_SNAKE_CASE",
                    &format!("{name}.{}", choice.name()),
                );
            }
        }
        for (name, kind) in enums(file) {
            check(is_pascal(kind.name()), "ENUM_PASCAL_CASE", &name);
            let prefix = upper_snake(kind.name());
            for value in &kind.value {
                check(value.name().starts_with(&prefix), "ENUM_VALUE_PREFIX", value.name());
            }
            let zero =
                kind.value.iter().find(|value| value.number() == 0).map(|value| value.name().to_owned());
            check(zero == Some(prefix + "UNSPECIFIED"), "ENUM_ZERO_VALUE_SUFFIX", &name);
        }
        // Finds declarations without a comment: paths of the source code info identify services, methods,
        // messages and fields.
        let info = file.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
        for location in info {
            let is_declared = matches!(location.path[..], [4..=6, _] | [4..=6, _, 2, _]);
            let is_described = !location.leading_comments().trim().is_empty();
            check(is_described || !is_declared, "COMMENTS", &format!("line {}", location.span[0] + 1));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn streams_of_jobs_have_the_same_fields() {
    // A client reads all three with the same code.
    let shape = |name: &str| {
        let files = files();
        let all: Vec<_> = files.iter().flat_map(messages).collect();
        let (_, message) = all.iter().find(|(found, _)| found == &format!("sloth.v2.{name}")).unwrap();
        message.field.iter().map(|field| describe_field(message, field)).collect::<Vec<_>>()
    };
    assert_eq!(shape("StartJobResponse"), shape("FollowJobResponse"));
    assert_eq!(shape("RerunJobResponse"), shape("FollowJobResponse"));
}
