//! What a machine is asked first, and what is said when it does not answer as it should.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cairn_sources::machine::{Ask, Build, look};
use cairn_sources::{Error, Result, Sha256};

use crate::build::{Ear, Machine, binaries};
use crate::ssh_server::SshServer;

fn ask(machine: &Machine, path: &str, names: &[&str]) -> Result<Build> {
    let (source, names) = (machine.source(path), binaries(names));
    look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default())
}

/// Runs git without settings of this machine.
pub(crate) fn git(tree: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(tree)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn files_platform_and_paths_are_told() {
    let Some(machine) = Machine::start() else { return };
    machine.put("src/app/node", b"the node");
    machine.put("src/app/tool", b"");
    let build = ask(&machine, "src/{name}/{binary}", &["node", "tool"]).unwrap();
    assert_eq!(build.machine, SshServer::HOST);
    let told: Vec<_> = build.files.iter().map(|file| (&*file.binary, &*file.path, file.size)).collect();
    assert_eq!(told, [("node", "src/app/node", 8), ("tool", "src/app/tool", 0)]);
    assert_eq!(build.files[0].sha256, Sha256::of(b"the node"));
    let uname = Command::new("uname").arg("-m").output().unwrap();
    let processor = String::from_utf8(uname.stdout).unwrap().trim().to_owned();
    assert_eq!(build.platform, Some(("Linux".to_owned(), processor)));
    assert_eq!(build.commit, None);
    // The user's folder may be written, and absolute paths.
    assert!(ask(&machine, "~/src/app/{binary}", &["node"]).is_ok());
    let absolute = machine.server.home().join("src/app/{binary}");
    assert!(ask(&machine, absolute.to_str().unwrap(), &["node"]).is_ok());
}

#[test]
fn the_commit_is_that_of_the_tree() {
    let Some(machine) = Machine::start() else { return };
    let source = machine.put("app/main.rs", b"fn main() {}");
    machine.put("app/.gitignore", b"target\n");
    machine.put("app/target/release/node", b"built");
    let tree = source.parent().unwrap();
    git(tree, &["init", "-q"]);
    git(tree, &["add", "."]);
    git(tree, &["commit", "-qm", "first"]);
    git(tree, &["tag", "v1.2"]);
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(tree).output().unwrap();
    let commit = ask(&machine, "app/target/release/{binary}", &["node"]).unwrap().commit.unwrap();
    assert_eq!(commit.id, String::from_utf8(head.stdout).unwrap().trim());
    assert_eq!((commit.is_dirty, commit.described.as_deref()), (false, Some("v1.2")));
    std::fs::write(source, "fn main() { changed() }").unwrap();
    assert!(ask(&machine, "app/target/release/{binary}", &["node"]).unwrap().commit.unwrap().is_dirty);
    // The tree may be named, where programs are built somewhere else.
    machine.put("elsewhere/node", b"built");
    let (mut source, names) = (machine.source("elsewhere/{binary}"), binaries(&["node"]));
    let build =
        |source: &_| look(&Ask { package: "app", binaries: &names, source }, &Ear::default()).unwrap();
    assert_eq!(build(&source).commit, None);
    source.tree = Some("app".to_owned());
    assert_eq!(build(&source).commit.unwrap().id, commit.id);
}

#[test]
fn names_are_data() {
    let Some(machine) = Machine::start() else { return };
    let names = [
        "a b",
        "it's",
        "$(touch hacked)",
        "`touch hacked`",
        "-rf",
        "a;touch hacked",
        "a\nb",
        "\"",
        "\\",
        "é",
        "*",
        "&& touch hacked",
        "#",
        "~",
        "a\\nb",
        "%s",
        "PROGRAM",
        "MARK",
    ];
    for name in names {
        machine.put(&format!("./{name}"), name.as_bytes());
    }
    let build = ask(&machine, "{binary}", &names).unwrap();
    for (file, name) in build.files.iter().zip(names) {
        assert_eq!(file.sha256, Sha256::of(name.as_bytes()), "{name:?}");
    }
    assert!(!machine.server.home().join("hacked").exists());
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let Some(machine) = Machine::start() else { return };
    machine.put("out/local_validator", b"");
    machine.put("out/zebra", b"");
    let error = ask(&machine, "out/{binary}", &["zebra", "validator"]).unwrap_err();
    assert!(matches!(error, Error::Absent { .. }));
    assert_eq!(error.to_string(), "machine build has no out/validator (for the program validator)");
    assert_eq!(error.hint(), Some("that folder has local_validator, zebra"));
    let error = ask(&machine, "nowhere/{binary}", &["node"]).unwrap_err();
    assert!(error.hint().unwrap().starts_with("there is no folder nowhere either"), "{error:?}");
    std::fs::create_dir(machine.server.home().join("out/node")).unwrap();
    let error = ask(&machine, "out/{binary}", &["node"]).unwrap_err();
    assert_eq!(error.to_string(), "out/node of machine build is not a file (for the program node)");
}

#[test]
fn the_first_machine_that_has_all_is_taken() {
    let Some(machine) = Machine::start() else { return };
    machine.put("node", b"here");
    let (mut source, names) = (machine.source("{binary}"), binaries(&["node"]));
    source.machines = vec!["no-such-host.invalid".to_owned(), SshServer::HOST.to_owned()];
    let ear = Ear::default();
    let build = look(&Ask { package: "app", binaries: &names, source: &source }, &ear).unwrap();
    assert_eq!(build.machine, SshServer::HOST);
    let warnings = ear.warnings.lock().unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("Could not resolve hostname"), "{warnings:?}");
    source.machines.reverse();
    let names = binaries(&["other"]);
    let error =
        look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("no machine has a build of app: machine build has no other"), "{text}");
    assert!(text.contains("; machine no-such-host.invalid: "), "{text}");
    source.machines.clear();
    let error =
        look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default()).unwrap_err();
    assert!(matches!(error, Error::Usage { .. }), "{error}");
}

#[test]
fn machines_that_ssh_does_not_reach() {
    let Some(machine) = Machine::start() else { return };
    machine.put("node", b"here");
    let names = binaries(&["node"]);
    let fails = |option: &str| {
        let mut source = machine.source("{binary}");
        source.ssh.extend(["-o".to_owned(), option.to_owned()]);
        look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default()).unwrap_err()
    };
    let error = fails("UserKnownHostsFile=/dev/null");
    assert!(error.hint().unwrap().contains("compare the fingerprint"), "{error}");
    let error = fails("PreferredAuthentications=none");
    assert!(
        matches!(error, Error::Refused { .. }) && error.to_string().contains("Permission denied"),
        "{error}"
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = fails(&format!("Port={free}"));
    // The port of the configuration comes before one of the command line; both are tried by what is said.
    assert!(matches!(error, Error::Unavailable { .. } | Error::Refused { .. }), "{error}");
    let mut source = machine.source("{binary}");
    source.ssh = vec!["no-such-client".to_owned()];
    let error =
        look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot run no-such-client");
    for (host, user) in [("-oProxyCommand=touch hacked", None), ("", None), ("build", Some("-l"))] {
        let mut source = machine.source("{binary}");
        source.machines = vec![host.to_owned()];
        source.user = user.map(str::to_owned);
        let error =
            look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default()).unwrap_err();
        assert!(matches!(error, Error::Usage { .. }), "{error}");
    }
}

#[test]
fn machines_without_sha256sum() {
    let hashers: Vec<_> = ["shasum", "openssl"].into_iter().filter(|name| find(name).is_some()).collect();
    for hasher in hashers {
        let tools = tempfile::tempdir().unwrap();
        link(tools.path(), &["sh", "dd", "wc", "uname", "cat", "head", "sed", "ls", "perl", hasher]);
        let Some(machine) = Machine::start_with_path(tools.path().to_str().unwrap()) else { return };
        machine.put("node", b"here");
        let build = ask(&machine, "{binary}", &["node"]).unwrap();
        assert_eq!(build.files[0].sha256, Sha256::of(b"here"), "{hasher}");
    }
    let tools = tempfile::tempdir().unwrap();
    link(tools.path(), &["sh", "dd", "wc", "uname", "cat", "head", "sed", "ls"]);
    let Some(machine) = Machine::start_with_path(tools.path().to_str().unwrap()) else { return };
    machine.put("node", b"here");
    let error = ask(&machine, "{binary}", &["node"]).unwrap_err();
    assert!(error.to_string().contains("none of sha256sum, shasum and openssl"), "{error}");
}

pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A folder with these programs and no others, where they are installed.
pub(crate) fn link(folder: &Path, programs: &[&str]) {
    for program in programs {
        if let Some(path) = find(program) {
            std::os::unix::fs::symlink(path, folder.join(program)).unwrap();
        }
    }
}

/// In a process of its own, since the variable is of the whole process.
#[test]
fn addresses_come_from_multipass() {
    let Some(machine) = Machine::start() else { return };
    machine.put("node", b"here");
    let program = machine.empty("bin").join("multipass");
    let script = "#!/bin/sh\n[ \"$1 $3 $4\" = 'info --format json' ] || exit 9\ncase $2 in\n\
        dev) s=Running a='\"127.0.0.1\"';;\nstopped) s=Stopped a=;;\n\
        *) echo \"info failed: instance \\\"$2\\\" does not exist\" >&2; exit 2;;\nesac\n\
        echo \"{\\\"errors\\\":[],\\\"info\\\":{\\\"$2\\\":{\\\"state\\\":\\\"$s\\\",\\\"ipv4\\\":[$a]}}}\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "look::in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env("CAIRN_MULTIPASS", &program)
        .env("SSH_CONFIG", machine.server.client_config())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "a part of addresses_come_from_multipass"]
fn in_a_process_of_its_own() {
    let source = |machines: &[&str]| cairn_sources::config::MachineSource {
        machines: binaries(machines),
        user: None,
        path: "{binary}".parse().unwrap(),
        tree: None,
        ssh: binaries(&["ssh", "-F", &std::env::var("SSH_CONFIG").unwrap()]),
        is_multipass: true,
    };
    let names = binaries(&["node"]);
    let ask = |machines: &[&str]| {
        look(&Ask { package: "app", binaries: &names, source: &source(machines) }, &Ear::default())
    };
    let build = ask(&["stopped", "dev"]).unwrap();
    assert_eq!((&*build.machine, build.files[0].size), ("dev", 4));
    let error = ask(&["stopped"]).unwrap_err();
    assert_eq!(error.to_string(), "virtual machine stopped: it is not running, its state is Stopped");
    assert_eq!(error.hint(), Some("start it: multipass start stopped"));
    let error = ask(&["other"]).unwrap_err();
    assert_eq!(error.to_string(), "multipass has no virtual machine other");
}
