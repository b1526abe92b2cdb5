# Recipes for development. `tests/run` does not need just; each recipe shows the command that it runs.

# List the recipes.
default:
    @just --list

# Start a private master with five agents, and the control center.
demo:
    cargo run --release --locked -- demo

# Run everything that has to pass before a change lands.
test:
    tests/run

# Run the tests of one file below tests/suite/, such as `just one promises`, or of one module with `just unit spool`.
one FILE TEST="":
    cargo test --locked --test suite {{FILE}}::{{TEST}}

# Run the unit tests whose names contain a text.
unit NAME:
    cargo test --locked --lib -- {{NAME}}

# Check format, lints and documentation.
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

# Accept the screens that the tests draw now, after looking at the difference.
accept:
    INSTA_UPDATE=always cargo test --locked --lib tui::tests
    git diff --stat -- '*.snap'

# Measure against a bare gRPC relay and ssh.
bench *ARGUMENTS:
    cargo bench --locked {{ARGUMENTS}}

# Apply known faults, and check that tests find them: all of them, or some by number.
mutants *NUMBERS:
    tests/mutants/run {{NUMBERS}}

# Check licences, sources and known vulnerabilities (cargo install cargo-deny).
deny:
    cargo deny check

# Draw the README's picture again.
picture:
    assets/picture

# Build the archive, its checksum and the Debian package of a release.
package *ARGUMENTS:
    assets/package {{ARGUMENTS}}
