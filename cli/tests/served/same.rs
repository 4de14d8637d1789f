//! The same commands on two new stores, one of which a daemon has: standard output, standard error, exit codes and what
//! is written are the same, except for the time that it took and when it was.

use std::process::Command;

use harness::program::text;
use serde_json::Value;

use crate::world::World;

/// Every command with what can be said of it, in an order in which they find something. `-` gives standard input.
const SCRIPT: [&str; 77] = [
    "add one --name hello --version 1 --channel stable",
    "add two --name hello --version 2 --json",
    "add two --name hello --version 2",
    "add one --name hello --version 2",
    "add one --name hello --version 2 --json",
    "add tool --name tool --version 1 --quiet",
    "add rival --name rival --version 1",
    "add - --file-name piped --name piped --version 1",
    "add nothing --name nothing --version 1",
    "add one --name a/b --version 1",
    "add one --version 1",
    "ls",
    "ls --json",
    "ls hello",
    "ls nothing",
    "show hello@1",
    "show hello@stable --json",
    "show hello@3",
    "show hello@3 --json",
    "cat hello@1:share/text",
    "cat piped@1:piped",
    "cat hello@1:nothing",
    "cat hello@1:share",
    "export hello@1 out",
    "export hello@1 out",
    "export hello@2 out --force --json",
    "export hello@9 other",
    "diff hello@1 hello@2",
    "diff hello@1 hello@2 --json",
    "diff hello@1 hello@1",
    "tag hello@2 beta",
    "tag hello@2 beta --json",
    "tag hello@1 2",
    "tag hello@9 beta",
    "rm hello@1",
    "rm piped@1",
    "rm piped@1",
    "rm piped@1 --json",
    "use hello@1 tool@1",
    "use hello@1 tool@1",
    "use hello@2 --json",
    "use rival@1",
    "use rival@1 --json",
    "use rival@1 --prefer rival",
    "use hello@9",
    "use hello@1 --profile canary",
    "use tool@1 --if-current 1",
    "remove rival",
    "remove rival",
    "remove tool --json",
    "generations",
    "generations --json",
    "generations --profile canary",
    "generations --profile nothing",
    "switch 1",
    "switch 1",
    "switch 99",
    "switch 4 --json",
    "rollback",
    "rollback --json",
    "rollback --to 99",
    "rollback --to 1",
    "rollback",
    "pin 2",
    "pin 2 --json",
    "pin 99",
    "unpin 2",
    "pin 3",
    "prune --keep 1 --dry-run",
    "prune --keep 1 --json",
    "prune --keep 1",
    "generations",
    "verify",
    "verify --json",
    "stats --json",
    "log",
    "log --json",
];

/// What the names of JSON fields have in them that differ from one run to the next.
const MASKED: [&str; 6] = ["time", "elapsed", "seconds", "duration", "_ms", "unchanged_files"];

/// What a command came to: its exit code, and what it printed.
#[derive(Debug, PartialEq)]
struct Came {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(world: &World, line: &str) -> Came {
    let arguments: Vec<&str> = line.split(' ').collect();
    let output = world.run(&arguments, b"through a pipe");
    let mask = |bytes: &[u8]| mask(&text(bytes).replace(&world.path("").display().to_string(), "HERE/"));
    Came { code: output.status.code(), out: mask(&output.stdout), err: mask(&output.stderr) }
}

/// The same text without what differs from one run to the next.
fn mask(text: &str) -> String {
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(mut value @ Value::Object(_)) => {
            mask_json(&mut value);
            value.to_string()
        }
        _ if line.starts_with("  time ") => "  time #".to_owned(),
        // Whether a file that was made a moment ago is read again is a matter of the clock.
        _ if line.starts_with("  files ") => line.split(',').next().unwrap_or_default().to_owned(),
        _ => line.split(' ').map(mask_word).collect::<Vec<_>>().join(" "),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A date, a time of day and a number of seconds become `#`.
fn mask_word(word: &str) -> String {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_time = digits >= 6 && word.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TZ".contains(&byte));
    if is_time { "#".to_owned() } else { word.to_owned() }
}

fn mask_json(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let is_masked = MASKED.iter().any(|of| name.contains(of));
                if is_masked { *field = Value::Null } else { mask_json(field) }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_json),
        _ => {}
    }
}

#[test]
fn every_command_says_and_does_the_same_with_a_daemon() {
    let (alone, served) = (World::alone(), World::served(&[]));
    let mut differences = Vec::new();
    for line in SCRIPT {
        let (expected, found) = (run(&alone, line), run(&served, line));
        if found != expected {
            differences.push(format!("cairn {line}\n  alone: {expected:?}\n served: {found:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(served.jobs(), Some(0), "the daemon is as it was");
    let same = Command::new("diff").arg("-r").args([alone.path("out"), served.path("out")]).output().unwrap();
    assert!(same.status.success(), "{}", text(&same.stdout));
}
