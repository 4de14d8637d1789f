//! `cargo bench -p cairn-benches`: measures the bars and prints their table. See `benches/README.md`.

use std::process::ExitCode;

use cairn_benches::Programs;

fn main() -> ExitCode {
    // Cargo names the package's other programs when it builds a bench target.
    let programs = Programs {
        index: option_env!("CARGO_BIN_EXE_index"),
        codec: option_env!("CARGO_BIN_EXE_codec"),
        chunking: option_env!("CARGO_BIN_EXE_chunking"),
        probe: option_env!("CARGO_BIN_EXE_probe"),
    };
    cairn_benches::main(std::env::args_os().skip(1), programs)
}
