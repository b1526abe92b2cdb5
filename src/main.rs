//! sloth-runner: parse, run, exit.

fn main() {}
