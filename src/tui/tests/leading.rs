//! The screen leads: what needs a person comes first, can be acknowledged, and is one key away.

use super::{
    agent,
    harness::{World, end, groups, job, sketch, uname},
};
use crate::{
    domain::{
        agent::{AgentState, AgentView},
        control::JobDigest,
        job::{LastJob, TaskState},
        outcome::{Ending, KillProof},
    },
    tui::msg::Msg,
};

#[test]
fn what_was_said_is_kept_and_dismissed_by_a_key() {
    let mut world = World::with_agents((120, 40), 2);
    world.press("/");
    world.write("nothing-like-this");
    world.press("Enter V Esc");
    assert!(!world.says("V again"), "{}", world.screen());
    world.press("M");
    assert!(world.says("Messages") && world.says("V again picks all rows"), "{}", world.screen());
    world.press("q");
    assert!(!world.says("Messages"));
}

#[test]
fn an_acknowledged_failure_needs_no_attention_until_the_next_one() {
    let mut world = sketch((120, 40));
    world.press("1 g j j j");
    assert_eq!(
        world.model.fleet.under_cursor().map(|agent| agent.name.to_string()).as_deref(),
        Some("web-2")
    );
    let urgent = |world: &World| world.model.fleet.urgent_above(99);
    assert_eq!(urgent(&world), 4);
    world.press("c");
    assert!(world.says("1 failure acknowledged"), "{}", world.screen());
    assert_eq!(urgent(&world), 3);
    let mut failed = agent("web-2");
    let mut job = job(413, 1, "false");
    end(&mut job, 0, Ending::Exited(1));
    failed.last_job = Some(LastJob { number: 413, ..LastJob::new(&job.tasks[0]) });
    world.agents(vec![failed.clone()]);
    assert_eq!(urgent(&world), 3, "the scripted fleet has no pending key now, and one more failure");
    end_with(&mut failed, Ending::Cancelled { proof: None, by: "ana".into(), seal: None });
    world.agents(vec![failed]);
    assert_eq!(urgent(&world), 2, "what was cancelled is no failure");
}

/// Lets the last job of an agent end in some way.
fn end_with(entry: &mut AgentView, ending: Ending) {
    let mut job = job(414, 1, "true");
    end(&mut job, 0, ending);
    entry.last_job = Some(LastJob { number: 414, ..LastJob::new(&job.tasks[0]) });
}

#[test]
fn the_grid_has_a_pane_for_each_group_and_follows_attention_until_the_operator_moves() {
    let mut world = sketch((120, 40));
    world.press("2 v");
    let places = |world: &World| world.model.open.as_ref().unwrap().places.clone();
    assert_eq!(places(&world), [1, 2, 8, 11, 0], "the examples of the rows");
    assert!(world.says("✓ 2 web-[12-13]  exited 0") && world.says("4 of 5 panes"), "{}", world.screen());
    let fails = |world: &mut World, index: u32| {
        let mut job = world.model.open.as_ref().unwrap().job.clone();
        job.tasks[index as usize].state = TaskState::Running;
        job.unfinished += 1;
        end(&mut job, index, Ending::Exited(2));
        let digest = JobDigest {
            job: Some(Box::new(job.clone())),
            groups: groups(&job, uname),
            ..JobDigest::default()
        };
        world.pass(2_000);
        world.put(Msg::Digest(job.id, Box::new(digest)));
    };
    fails(&mut world, 5);
    assert!(places(&world)[..2].contains(&5), "what failed comes first: {:?}", places(&world));
    world.press("j");
    let before = places(&world);
    fails(&mut world, 7);
    assert_eq!(places(&world)[..before.len()], before[..], "from now on places are kept");
    world.press("o");
    assert_eq!(places(&world).len(), 14, "unfolded, each agent has a pane");
}

#[test]
fn an_output_has_the_whole_width() {
    let mut world = sketch((120, 40));
    world.press("2 g Enter");
    assert!(!world.says("Fleet  17"), "{}", world.screen());
    world.press("Esc");
    assert!(world.says("Fleet  17"));
}

#[test]
fn many_pending_keys_fold_into_one_row() {
    let mut world = World::with_agents((80, 24), 3);
    let keys = |count: u32| -> Vec<AgentView> {
        let key = |n: u32| AgentView { state: AgentState::Pending, ..agent(&format!("new-{n}")) };
        (1..=count).map(key).collect()
    };
    let waits = |world: &mut World, count: u32| {
        world.put(Msg::Agents {
            agents: vec![],
            gone: vec![],
            waiting: Some(keys(count)),
            is_complete: true,
        });
    };
    waits(&mut world, 3);
    assert!(world.says("new-1") && world.says("new-3"), "{}", world.screen());
    waits(&mut world, 10);
    assert!(world.says("10 keys") && !world.says("new-3"), "{}", world.screen());
    assert!(world.says("Fleet  13"), "{}", world.screen());
    world.press("g Enter");
    assert!(world.says("new-10") && !world.says("10 keys"), "{}", world.screen());
    world.press("Enter");
    assert!(world.says("A machine asks to be enrolled"), "{}", world.screen());
    world.press("q Esc");
    assert!(world.says("10 keys"), "{}", world.screen());
}

#[test]
fn the_proof_of_a_cancel_is_of_all_its_tasks() {
    let mut world = sketch((120, 40));
    world.press("2");
    let mut job = world.model.open.as_ref().unwrap().job.clone();
    for (index, at_once) in [(2u32, true), (8, false)] {
        job.tasks[index as usize].no_contact_since_ms = None;
        let proof = Some(KillProof::new(2, Vec::new(), 0));
        end(&mut job, index, Ending::Cancelled { proof, by: "ana".into(), seal: None });
        let tasks = vec![job.tasks[index as usize].clone()];
        world.put(Msg::Digest(
            job.id,
            Box::new(JobDigest { tasks, groups: groups(&job, uname), ..JobDigest::default() }),
        ));
        let expected = if at_once {
            "web-3 cancelled, 2 processes ended"
        } else {
            "2 tasks cancelled, 4 processes ended"
        };
        assert!(world.says(expected), "{}", world.screen());
    }
    assert!(!world.says("(+1)"), "one message is enough: {}", world.screen());
}
