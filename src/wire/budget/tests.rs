//! Tests the limits of one principal, and that they do not affect other principals.

use super::*;

const TIGHT: Limits = Limits { connections: 2, calls: 3, calls_a_second: 10, writes: 1, ..Limits::OPERATOR };

fn ada() -> Principal {
    Principal::Operator("ada".to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_is_used_at_once_is_shared_by_all_connections_and_given_back() {
    let budgets = Budgets::new(TIGHT);
    let (one, two) = (budgets.of(ada()), budgets.of(ada()));
    let places = [one.connection().unwrap(), two.connection().unwrap()];
    let met = one.connection().unwrap_err();
    assert_eq!((met.limit, met.most), (Limit::Connections, 2));
    assert_eq!(met.to_string(), "ada has reached a limit of this master: 2 connections at once; close some");
    assert!(budgets.of(Principal::Operator("bob".into())).connection().is_ok(), "others notice nothing");
    drop(places);
    assert!(two.connection().is_ok());
    let write = one.write().unwrap();
    assert_eq!(two.write().unwrap_err().limit, Limit::Writes);
    drop(write);
    assert!(two.write().is_ok());
    let counts: Vec<u64> = budgets.counts().map(|(_, count)| count).collect();
    assert_eq!(counts, [1, 0, 0, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn calls_have_a_rate() {
    let budget = Budgets::new(TIGHT).of(ada());
    let calls = std::iter::from_fn(|| budget.call().ok()).count();
    assert_eq!(calls, 51, "five seconds' worth at once");
    assert_eq!(budget.call().unwrap_err().limit, Limit::CallRate);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(std::iter::from_fn(|| budget.call().ok()).count(), 2);
    let held: Vec<Permit> = {
        tokio::time::sleep(Duration::from_secs(10)).await;
        std::iter::from_fn(|| budget.call().ok()).collect()
    };
    assert_eq!(held.len(), 3);
    assert_eq!(budget.call().unwrap_err().limit, Limit::Calls);
}

#[tokio::test(start_paused = true)]
async fn selections_are_charged_by_their_time() {
    let budget = Budgets::new(TIGHT).of(ada());
    budget.selecting().unwrap();
    budget.charge_selecting(Duration::from_secs(3));
    assert_eq!(budget.selecting().unwrap_err().limit, Limit::Selecting);
    tokio::time::sleep(Duration::from_secs(8)).await;
    budget.selecting().unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_that_nobody_reads_keep_only_their_own_reader_waiting() {
    let budgets = Budgets::new(Limits { buffered_bytes: 10, ..TIGHT });
    let budget = budgets.of(ada());
    let place = budget.buffer(8).await;
    let wait = Duration::from_mins(1);
    assert!(tokio::time::timeout(wait, budget.buffer(3)).await.is_err());
    assert!(
        tokio::time::timeout(wait, budgets.of(Principal::Operator("bob".into())).buffer(9)).await.is_ok()
    );
    drop(place);
    assert!(
        tokio::time::timeout(wait, budget.buffer(1_000)).await.is_ok(),
        "what is larger than all takes all"
    );
}

#[tokio::test(start_paused = true)]
async fn an_administrator_of_the_machine_has_no_limits() {
    let root = Budget::unlimited(Principal::Operator("root".into()));
    let places: Vec<Permit> = (0..10_000).map(|_| root.call().unwrap()).collect();
    root.charge_selecting(Duration::from_secs(1_000));
    assert!(root.selecting().is_ok() && root.connection().is_ok() && root.may_log());
    assert_eq!(places.len(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_new_budget_by_coming_again() {
    let budgets = Budgets::new(TIGHT);
    while budgets.of(ada()).call().is_ok() {}
    for n in 0..5_000u32 {
        let _ = budgets.of(Principal::Source(IpAddr::from(n.to_be_bytes())));
    }
    assert!(budgets.of(ada()).call().is_err());
    assert!(budgets.known.lock().unwrap().len() < 4_096, "others are forgotten");
}
