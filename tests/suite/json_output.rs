//! The output of `-o json` and `-o ndjson` matches the schemas in `assets/schema`, no more and no less.

use std::{collections::BTreeSet, fs, path::Path};

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use crate::rig::{Printed, TestCluster, until};

/// Fields of the schemas that these tests do not produce.
const RARE: [&str; 1] = ["stderr_base64"];

/// The schemas, each with the name of its file.
struct Schemas(Vec<(String, Value)>);

impl Schemas {
    fn read() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/schema");
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let schema = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        };
        Self(files.map(schema).collect())
    }

    /// Returns the schemas without permission for other fields. The published ones permit them, since fields
    /// are added.
    fn strict(mut self) -> Self {
        fn close(schema: &mut Value, is_part: bool) {
            let Value::Object(all) = schema else { return };
            let is_object = ["$ref", "allOf", "properties"].iter().any(|key| all.contains_key(*key));
            for (key, inner) in all.iter_mut() {
                match (key.as_str(), inner) {
                    // Parts of an object are closed in the schema that combines them.
                    ("allOf", Value::Array(parts)) => parts.iter_mut().for_each(|part| close(part, true)),
                    ("$defs", Value::Object(parts)) => parts.values_mut().for_each(|part| close(part, true)),
                    ("properties", Value::Object(fields)) => {
                        fields.values_mut().for_each(|field| close(field, false));
                    }
                    ("anyOf" | "oneOf", Value::Array(choices)) => {
                        for choice in choices {
                            close(choice, false);
                        }
                    }
                    ("items" | "additionalProperties", inner) => close(inner, false),
                    _ => {}
                }
            }
            if is_object && !is_part {
                all.insert("unevaluatedProperties".to_owned(), false.into());
            }
        }
        self.0.iter_mut().for_each(|(_, schema)| close(schema, false));
        self
    }

    fn uri(name: &str) -> String {
        format!("schema:///{name}")
    }

    fn registry(&self) -> Registry<'_> {
        let all = self.0.iter().map(|(name, schema)| (Self::uri(name), schema));
        Registry::new().extend(all).unwrap().prepare().unwrap()
    }

    /// Returns the names of all fields that the schemas describe.
    fn fields(&self) -> BTreeSet<String> {
        fn collect(schema: &Value, into: &mut BTreeSet<String>) {
            match schema {
                Value::Object(all) => {
                    let fields = all.get("properties").and_then(Value::as_object);
                    into.extend(fields.into_iter().flatten().map(|(name, _)| name.clone()));
                    all.values().for_each(|inner| collect(inner, into));
                }
                Value::Array(all) => all.iter().for_each(|inner| collect(inner, into)),
                _ => {}
            }
        }
        let mut fields = BTreeSet::new();
        self.0.iter().for_each(|(_, schema)| collect(schema, &mut fields));
        fields
    }
}

/// Compares output with the schemas, and collects its fields.
struct Checker<'a> {
    registry: &'a Registry<'a>,
    described: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl Checker<'_> {
    fn validator(&self, name: &str) -> Validator {
        let schema = json!({ "$ref": Schemas::uri(name) });
        jsonschema::options().with_registry(self.registry).build(&schema).unwrap()
    }

    fn check(&mut self, schema: &str, object: &Value) {
        let errors: Vec<String> = self
            .validator(schema)
            .iter_errors(object)
            .map(|error| format!("{error} ({})", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{schema}: {errors:#?}\n{object:#}");
        self.collect(schema, object);
    }

    fn collect(&mut self, schema: &str, value: &Value) {
        match value {
            Value::Object(all) => {
                for (name, inner) in all {
                    // Their keys are names of labels, hosts and groups.
                    let is_map = name.ends_with("labels") || schema == "inventory.json";
                    assert!(is_map || self.described.contains(name), "{schema} does not describe {name}");
                    self.seen.insert(name.clone());
                    if !is_map || ["_meta", "hostvars", "all"].contains(&name.as_str()) {
                        self.collect(schema, inner);
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|inner| self.collect(schema, inner)),
            _ => {}
        }
    }

    /// Checks one object, with `-o json` and, on one line, with `-o ndjson`.
    fn document(&mut self, schema: &str, rig: &TestCluster, words: &[&str]) {
        // Jobs that are followed are a stream of events with `-o ndjson`.
        let is_stream = words[0] == "run" && !words.contains(&"-b");
        for format in ["json", "ndjson"].into_iter().take(if is_stream { 1 } else { 2 }) {
            let (command, rest) =
                words.split_at(words.iter().position(|word| *word == "@").unwrap_or(words.len()));
            let rest = rest.get(1..).unwrap_or_default();
            let printed = rig.run(&[command, &["-o", format], rest].concat());
            if format == "ndjson" {
                assert_eq!(printed.out.lines().count(), 1, "{words:?}: {printed:?}");
            }
            self.check(schema, &parsed(words, &printed));
        }
    }

    /// Checks a stream of events, and returns them.
    fn events(&mut self, rig: &TestCluster, words: &[&str]) -> Vec<Value> {
        let printed = rig.run(words);
        let events: Vec<Value> =
            printed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.first().is_some_and(|event| event["event"] == "job"), "{words:?}: {printed:?}");
        assert!(events.last().is_some_and(|event| event["event"] == "ended"), "{words:?}: {printed:?}");
        for event in &events {
            self.check("job-event.json", event);
        }
        events
    }
}

fn parsed(words: &[&str], printed: &Printed) -> Value {
    serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{words:?}: {error}: {printed:?}"))
}

#[test]
fn the_schemas_are_valid() {
    let schemas = Schemas::read();
    let registry = schemas.registry();
    for (name, schema) in &schemas.0 {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
        let checker = Checker { registry: &registry, described: BTreeSet::new(), seen: BTreeSet::new() };
        assert!(!checker.validator(name).is_valid(&json!([])), "{name} describes an object");
    }
}

#[test]
fn a_field_that_is_not_described_is_found() {
    let schemas = Schemas::read().strict();
    let registry = schemas.registry();
    let checker = Checker { registry: &registry, described: BTreeSet::new(), seen: BTreeSet::new() };
    let mut listed = json!({ "schema_version": 1, "masters": [{ "name": "m", "address": "m:1", "operator": null,
        "role": null, "ca_fingerprint": null, "key_fingerprint": null, "selected": true }] });
    assert!(checker.validator("masters.json").is_valid(&listed));
    listed["masters"][0]["state"] = "active".into();
    assert!(!checker.validator("masters.json").is_valid(&listed), "other schemas describe it");
}

#[test]
fn every_object_matches_its_schema() {
    let schemas = Schemas::read().strict();
    let registry = schemas.registry();
    let mut checker = Checker { registry: &registry, described: schemas.fields(), seen: BTreeSet::new() };
    let rig = TestCluster::with_agents(&["web-1", "web-2", "web-3"]);
    assert_eq!(rig.run(&["agent", "drain", "web-3", "--reason", "repair"]).status, 0);
    assert_eq!(rig.run(&["agent", "label", "web-1", "rack=7"]).status, 0);
    assert_eq!(rig.run(&["master", "token", "create", "--names", "db-*"]).status, 0);
    assert_eq!(rig.run(&["master", "operator", "add", "ana", "--role", "viewer"]).status, 0);
    until("facts have come", || rig.agent("web-1").is_some_and(|agent| !agent["facts"].is_null()));

    // Outcomes of each kind that one machine can produce, text and bytes, gaps, and agents that are left out.
    let run = ["run", "--timeout", "1", "--grace", "0", "@", "web-[1-3]"];
    for command in ["exit 3", "kill -9 $$", "sleep 60", "printf 'caf\\351\\n'; printf 'no end'"] {
        checker.document("job.json", &rig, &[&run[..], &[command]].concat());
    }
    // No client follows the job, so the output between the beginning and the end is not kept.
    let capped = ["run", "--detach", "--output-cap", "1k", "web-1", "printf 'a\\351b\\n'; seq 1 100000"];
    let capped = rig.run(&capped).out.trim().to_owned();
    rig.wait_task(&capped, "exited");
    let logs = ["job", "logs", &capped, "-o", "json"];
    let logs = parsed(&logs, &rig.run(&logs));
    assert_eq!(logs["tasks"][0]["gaps"].as_array().map(Vec::len), Some(1));
    checker.check("job.json", &logs);
    let events = checker.events(&rig, &["job", "logs", &capped, "-o", "ndjson"]);
    for kind in ["line", "gap"] {
        assert!(events.iter().any(|event| event["event"] == kind), "{kind}");
    }
    checker.document("job.json", &rig, &["run", "-b", "@", "web-[1-2]", "echo $SLOTH_AGENT"]);
    checker.document("job.json", &rig, &["job", "show", "last"]);
    checker.document("jobs.json", &rig, &["job", "list"]);
    let held = ["run", "--batch", "1", "--max-failures", "0", "web-[1-2]", "false"];
    assert_ne!(rig.run(&held).status, 0);
    checker.document("job.json", &rig, &["job", "show", "last"]);
    let long = rig.start_detached("web-1", "sleep 60");
    rig.wait_task(&long, "running");
    checker.document("job.json", &rig, &["job", "show", "last"]);
    assert_eq!(rig.run(&["job", "cancel", "last"]).status, 0);
    rig.wait_task(&long, "cancelled");
    checker.document("job.json", &rig, &["job", "show", "last"]);

    let events = checker.events(&rig, &["run", "-o", "ndjson", "web-[1-3]", "echo out; printf end >&2"]);
    assert!(events.iter().any(|event| event["event"] == "task"));
    let gated = ["run", "-o", "ndjson", "--batch", "1", "--max-failures", "0", "web-[1-2]", "false"];
    assert!(checker.events(&rig, &gated).iter().any(|event| event["event"] == "gate"));

    checker.document("agents.json", &rig, &["agent", "list"]);
    checker.document("agents.json", &rig, &["agent", "get", "web-1"]);
    checker.document("master-status.json", &rig, &["master", "status"]);
    checker.document("tokens.json", &rig, &["master", "token", "list"]);
    checker.document("operators.json", &rig, &["master", "operator", "list"]);
    assert_eq!(rig.run(&["master", "add", "here", &rig.socket()]).status, 0);
    checker.document("masters.json", &rig, &["master", "list"]);
    checker.document("masters.json", &rig, &["master", "show"]);
    checker.document("masters.json", &rig, &["master", "show", "here"]);
    checker.document("settings.json", &rig, &["config", "show"]);
    checker.document("findings.json", &rig, &["doctor"]);
    let inventory = ["inventory", "--list"];
    checker.check("inventory.json", &parsed(&inventory, &rig.run(&inventory)));
    for host in ["web-1", "nobody"] {
        let inventory = ["inventory", "--host", host];
        checker.check("inventory-host.json", &parsed(&inventory, &rig.run(&inventory)));
    }

    let never: Vec<&String> =
        checker.described.difference(&checker.seen).filter(|name| !RARE.contains(&name.as_str())).collect();
    assert!(never.is_empty(), "described, and never printed: {never:?}");
}
