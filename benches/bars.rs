//! `cargo bench -p cairn-benches`: measures the bars and prints their table. See `benches/README.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo names the package's other programs when it builds a bench target.
    cairn_benches::main(std::env::args_os().skip(1), option_env!("CARGO_BIN_EXE_index"))
}
