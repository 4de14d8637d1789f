//! Where a virtual machine of `multipass` is.

use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::session::Session;
use crate::error::{Error, Result};
use crate::watch::Watch;

/// How long it may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Most bytes that it says of one machine.
const INFO_BYTES_MAX: usize = 1 << 20;
/// The variable that names another program than `multipass`.
const PROGRAM_VARIABLE: &str = "CAIRN_MULTIPASS";

/// The first address of a machine that runs.
///
/// # Errors
/// If there is no such machine, it does not run, or has no address; if `multipass` is not there or fails.
pub(super) fn address(name: &str, watch: &dyn Watch) -> Result<String> {
    let program = std::env::var_os(PROGRAM_VARIABLE).filter(|program| !program.is_empty());
    let program = program.unwrap_or_else(|| OsString::from("multipass"));
    if name.is_empty() || name.starts_with('-') {
        let problem = format!("{name:?} is no name of a virtual machine");
        return Err(Error::Usage { problem, hint: "`multipass list` shows those that there are".to_owned() });
    }
    let mut command = Command::new(&program);
    command.args(["info", name, "--format", "json"]);
    let mut session = Session::start(command, &format!("multipass info {name}"), Arc::default())?;
    let (mut said, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        match session.receive(&mut buffer, IDLE_MAX, watch)? {
            0 => break,
            read => said.extend_from_slice(&buffer[..read]),
        }
        if said.len() > INFO_BYTES_MAX {
            return Err(session.broken(&format!("it said more than {INFO_BYTES_MAX} bytes")));
        }
    }
    let status = session.finish(watch)?;
    if !status.success() {
        let words = session.said();
        if words.contains("does not exist") {
            return Err(absent(name));
        }
        return Err(session.broken(&format!("it ended with {status}")));
    }
    parse(name, &said)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    info: std::collections::BTreeMap<String, Machine>,
}

#[derive(Deserialize)]
struct Machine {
    #[serde(default)]
    state: String,
    #[serde(default)]
    ipv4: Vec<String>,
}

fn parse(name: &str, said: &[u8]) -> Result<String> {
    let unavailable = |reason: String, hint: String| Error::Unavailable {
        what: format!("virtual machine {name}"),
        reason,
        hint,
    };
    let answer: Answer = serde_json::from_slice(said).map_err(|error| {
        unavailable(
            format!("multipass says something that is not understood: {error}"),
            format!("look at `multipass info {name} --format json`"),
        )
    })?;
    let machine = answer.info.get(name).ok_or_else(|| absent(name))?;
    if machine.state != "Running" {
        let state = if machine.state.is_empty() { "unknown" } else { &machine.state };
        let reason = format!("it is not running, its state is {state}");
        return Err(unavailable(reason, format!("start it: multipass start {name}")));
    }
    let address = machine.ipv4.iter().find(|address| address.parse::<std::net::Ipv4Addr>().is_ok());
    address.cloned().ok_or_else(|| {
        unavailable(
            "it runs and has no address".to_owned(),
            format!("wait until it has started, or: multipass restart {name}"),
        )
    })
}

fn absent(name: &str) -> Error {
    Error::Absent {
        what: format!("multipass has no virtual machine {name}"),
        hint: "`multipass list` shows those that there are".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As multipass 1.14 says it.
    fn info(state: &str, ipv4: &str) -> String {
        format!(
            r#"{{"errors":[],"info":{{"dev":{{"cpu_count":"2","disks":{{"sda1":{{"total":"5116440064","used":"1801379840"}}}},
            "image_hash":"","image_release":"22.04 LTS","ipv4":[{ipv4}],"load":[0.1,0.2,0.3],"memory":{{"total":1,"used":1}},
            "mounts":{{}},"release":"Ubuntu 22.04.4 LTS","snapshot_count":"0","state":"{state}"}}}}}}"#
        )
    }

    #[test]
    fn the_address_of_one_that_runs() {
        let said = info("Running", r#""10.231.4.7","172.17.0.1""#);
        assert_eq!(parse("dev", said.as_bytes()).unwrap(), "10.231.4.7");
    }

    #[test]
    fn others_are_told_how_to_start() {
        for (name, said, text, advice) in [
            ("dev", info("Stopped", ""), "not running, its state is Stopped", "multipass start dev"),
            ("dev", info("Running", ""), "has no address", "multipass restart dev"),
            ("dev", info("Running", r#""--evil""#), "has no address", "multipass restart dev"),
            ("other", info("Running", ""), "has no virtual machine other", "multipass list"),
            ("dev", "no json".to_owned(), "is not understood", "multipass info dev"),
        ] {
            let error = parse(name, said.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.hint().unwrap().contains(advice), "{:?}", error.hint());
        }
    }
}
