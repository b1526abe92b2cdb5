//! Runs the bodies of the fuzz targets on a stable compiler, each with random changes of its own seeds.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use crate::dice::Dice;
use bodies::BODIES;

/// Number of inputs to each body; `SLOTH_FUZZED` overrides it.
fn inputs() -> u64 {
    std::env::var("SLOTH_FUZZED").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000)
}

/// Applies one random mutation: flips, replaces, inserts, repeats, removes or splices bytes.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let place = |dice: &mut Dice, length: usize| usize::try_from(dice.roll(length as u64 + 1)).unwrap_or(0);
    let at = place(dice, bytes.len());
    match dice.roll(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
        1 if at < bytes.len() => {
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff][usize::try_from(dice.roll(5)).unwrap_or(0)];
        }
        2 => bytes.truncate(at),
        3 => bytes.insert(at, u8::try_from(dice.roll(256)).unwrap_or(0)),
        4 => {
            let piece = bytes[at..].to_vec();
            bytes.splice(at..at, piece.into_iter().take(64));
        }
        5 => {
            let from = place(dice, other.len());
            bytes.splice(at..at, other[from..].iter().copied().take(64));
        }
        _ => {
            let end = bytes.len().min(at + usize::try_from(dice.roll(8)).unwrap_or(0));
            bytes.drain(at..end);
        }
    }
}

#[test]
fn every_fuzz_body_holds_for_random_inputs() {
    for (number, body) in BODIES.iter().enumerate() {
        let seeds = (body.seeds)();
        for seed in &seeds {
            (body.check)(seed);
        }
        let mut dice = Dice(number as u64);
        for _ in 0..inputs() {
            let pick = |dice: &mut Dice| {
                let at = usize::try_from(dice.roll(seeds.len() as u64)).unwrap_or(0);
                seeds[at].clone()
            };
            let (mut bytes, other) = (pick(&mut dice), pick(&mut dice));
            for _ in 0..=dice.roll(6) {
                mutate(&mut bytes, &other, &mut dice);
            }
            let input = bytes.clone();
            let result = std::panic::catch_unwind(|| (body.check)(&input));
            assert!(result.is_ok(), "{} with {:?}", body.name, String::from_utf8_lossy(&bytes));
        }
    }
    bodies::remove_files();
}
