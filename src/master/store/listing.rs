//! Lists jobs, newest first. Each filter walks an index, so that the cost of a list depends on its length,
//! and not on the number of jobs.

use rusqlite::{Connection, Row, types::Value};

use super::rows::{JOB, job};
use crate::domain::{job::Job, time::UnixMs};

/// The filters of a list of jobs. Empty texts and zeros match any job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only jobs with a number below this.
    pub before_number: u64,
    /// The maximum number of results.
    pub limit: u32,
    /// Only jobs that began at or after this time, in milliseconds since the Unix epoch.
    pub since_ms: UnixMs,
    /// Only jobs of this operator.
    pub operator: String,
    /// Only jobs with a task on this agent.
    pub agent: String,
    /// Only jobs whose command or target contains this text.
    pub text: String,
    /// `ok`, `failed`, `running`, or the word of an outcome that one of the tasks has.
    pub outcome: String,
}

impl Wanted {
    /// Reports whether a job matches the filters for its number, time, operator and text.
    #[must_use]
    pub fn fits(&self, job: &Job) -> bool {
        let text = self.text.to_ascii_lowercase();
        let has_text = |text_of: &str| text_of.to_ascii_lowercase().contains(&text);
        (self.before_number == 0 || job.number < self.before_number)
            && job.created_ms >= self.since_ms
            && (self.operator.is_empty() || job.operator == self.operator.as_str())
            && (text.is_empty()
                || has_text(&job.target)
                || serde_json::to_string(&job.command).is_ok_and(|command| has_text(&command)))
    }
}

/// Below this number of jobs since a given time, all of them are examined. Of more jobs the newest are found
/// quickly anyway.
const FEW_JOBS: u64 = 5_000;

/// Number of characters of the terms in the text index. Shorter texts are searched in every job, and found
/// quickly.
const TRIGRAM: usize = 3;
/// Maximum number of trigrams in a query: more of them hardly narrow the search.
const MAX_TRIGRAMS: usize = 24;

/// The number of successes with which a job is ok, as in the indices. If an agent that the target names was left out, it is
/// higher than the number of tasks, so the job is not ok.
const ALL: &str = r#"task_count + instr(left_out, '"named":true')"#;

/// A query that is being built.
#[derive(Debug, Default)]
struct Query {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    /// Adds a value, and returns the name of its parameter.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn only(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }
}

fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Returns the query for the text index: the first trigrams of a text, all of which must match.
fn trigrams(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let quoted = |three: &[char]| format!("\"{}\"", three.iter().collect::<String>().replace('"', "\"\""));
    characters.windows(TRIGRAM).take(MAX_TRIGRAMS).map(quoted).collect::<Vec<_>>().join(" AND ")
}

/// Returns the newest jobs that match, newest first.
pub(super) fn jobs(connection: &Connection, wanted: &Wanted) -> rusqlite::Result<Vec<Job>> {
    let mut found = Vec::new();
    // Jobs that are not in the text index yet are newer than the others, and come first.
    let indexed: u64 = connection.query_row("SELECT indexed FROM meta", [], |row| row.get(0))?;
    let is_long = wanted.text.chars().count() >= TRIGRAM;
    let parts: &[Part] = if is_long { &[Part::NotIndexed, Part::Indexed] } else { &[Part::All] };
    for part in parts {
        let left = wanted.limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if left > 0 {
            found.extend(part_of(connection, &Wanted { limit: left, ..wanted.clone() }, *part, indexed)?);
        }
    }
    Ok(found)
}

/// The jobs that are examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// Jobs whose texts are in the text index.
    Indexed,
    NotIndexed,
}

fn part_of(connection: &Connection, wanted: &Wanted, part: Part, indexed: u64) -> rusqlite::Result<Vec<Job>> {
    let mut query = Query::default();
    // The first filter that applies decides which index is walked; the others are checked for each job.
    let mut walked = None;
    query.only("gone IS NULL");
    if !wanted.text.is_empty() {
        if part == Part::Indexed {
            // The index knows which texts contain all trigrams, but not where.
            let trigrams = query.value(trigrams(&wanted.text));
            query.only(format!("texts MATCH {trigrams}"));
            walked = Some(("texts CROSS JOIN jobs ON jobs.number = texts.rowid", "texts.rowid"));
        }
        let text = query.value(wanted.text.clone());
        query.only(format!(
            "(instr(lower(jobs.command), lower({text})) OR instr(lower(jobs.target), lower({text})))"
        ));
    }
    if part == Part::NotIndexed {
        let indexed = query.value(number(indexed));
        query.only(format!("jobs.number > {indexed}"));
        walked.get_or_insert(("jobs", "jobs.number"));
    }
    if !wanted.agent.is_empty() {
        let agent = query.value(wanted.agent.clone());
        if walked.is_none() {
            query.only(format!("listed.agent = {agent}"));
            walked =
                Some(("tasks AS listed CROSS JOIN jobs ON jobs.number = listed.number", "listed.number"));
        } else {
            query
                .only(format!("EXISTS (SELECT 1 FROM tasks WHERE agent = {agent} AND number = jobs.number)"));
        }
    }
    match wanted.outcome.as_str() {
        "" => {}
        "running" => {
            query.only("ended_ms IS NULL");
            walked.get_or_insert(("jobs INDEXED BY jobs_ended", "jobs.number"));
        }
        "ok" => {
            query.only(format!("ended_ms IS NOT NULL AND jobs.succeeded = {ALL}"));
            walked.get_or_insert(("jobs INDEXED BY jobs_ok", "jobs.number"));
        }
        "failed" => {
            query.only(format!("ended_ms IS NOT NULL AND jobs.succeeded < {ALL}"));
            walked.get_or_insert(("jobs INDEXED BY jobs_failed", "jobs.number"));
        }
        "exited" => {
            query.only("EXISTS (SELECT 1 FROM tasks WHERE job = jobs.id AND instr(outcome, '\"exited\"'))");
        }
        kind => {
            let kind = query.value(kind.to_owned());
            if walked.is_none() {
                query.only(format!("kinds.kind = {kind}"));
                walked =
                    Some(("outcomes AS kinds CROSS JOIN jobs ON jobs.number = kinds.number", "kinds.number"));
            } else {
                query.only(format!(
                    "EXISTS (SELECT 1 FROM outcomes WHERE kind = {kind} AND number = jobs.number)"
                ));
            }
        }
    }
    if !wanted.operator.is_empty() {
        let operator = query.value(wanted.operator.clone());
        query.only(format!("operator = {operator}"));
        walked.get_or_insert(("jobs INDEXED BY jobs_operator", "jobs.number"));
    }
    if wanted.since_ms > UnixMs(0) {
        let since = query.value(number(wanted.since_ms.0));
        query.only(format!("created_ms >= {since}"));
        if walked.is_none() {
            let few = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE created_ms >= ?1 LIMIT ?2)";
            let few: u64 =
                connection.query_row(few, [number(wanted.since_ms.0), number(FEW_JOBS)], |row| row.get(0))?;
            walked = (few < FEW_JOBS).then_some(("jobs INDEXED BY jobs_created", "jobs.number"));
        }
    }
    let (from, order) = walked.unwrap_or(("jobs", "jobs.number"));
    if wanted.before_number > 0 {
        let before = query.value(number(wanted.before_number));
        query.only(format!("{order} < {before}"));
    }
    let limit = query.value(i64::from(wanted.limit));
    let text = format!(
        "SELECT {JOB} FROM {from} WHERE {} ORDER BY {order} DESC LIMIT {limit}",
        query.conditions.join(" AND ")
    );
    let mut statement = connection.prepare(&text)?;
    let jobs = statement.query_map(rusqlite::params_from_iter(query.values), |row: &Row<'_>| job(row))?;
    jobs.map(|stored| Ok(stored?.job)).collect()
}
