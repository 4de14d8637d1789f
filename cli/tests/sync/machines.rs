//! Development builds from machines: a real sshd on loopback, and a program that plays multipass.

use harness::ssh_server::SshServer;

use crate::world::{Ran, World};

/// A world, and a machine that has `app` and `app-cli` in its home's folder `out`.
struct Build {
    world: World,
    machine: SshServer,
    // Dropped last: the machine's files are in it.
    _folder: tempfile::TempDir,
}

impl Build {
    /// None where there is no sshd.
    fn start() -> Option<Self> {
        if !SshServer::is_installed() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let machine = SshServer::start(folder.path()).unwrap();
        let ssh = machine.client().iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let host = SshServer::HOST;
        let world = World::new(&format!(
            "[packages.app]\nbinaries = [\"app\", \"app-cli\"]\nstrategy = \"ssh\"\n\
             ssh = {{ machines = [\"nobody.invalid\", \"{host}\"], path = \"out/{{binary}}\", ssh = [{ssh}] }}\n\
             vm = {{ machines = [\"elsewhere\"], path = \"out/{{binary}}\", ssh = [{ssh}] }}\n"
        ));
        let build = Self { world, machine, _folder: folder };
        build.make("app", &program(1));
        build.make("app-cli", b"#!/bin/sh\necho cli\n");
        Some(build)
    }

    fn make(&self, name: &str, bytes: &[u8]) {
        let folder = self.machine.home().join("out");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A program of 2 MB; of each version 1 % is its own.
fn program(version: u8) -> Vec<u8> {
    let byte = |nth: u32| u8::try_from(nth.wrapping_mul(2_654_435_761).rotate_left(nth % 31) >> 24).unwrap();
    let mut bytes: Vec<u8> = (0..2_000_000).map(byte).collect();
    for (nth, byte) in bytes[900_000..920_000].iter_mut().enumerate() {
        *byte = version.wrapping_mul(31).wrapping_add(u8::try_from(nth % 251).unwrap());
    }
    bytes
}

#[test]
fn a_build_comes_once_and_then_only_what_is_new() {
    let Some(build) = Build::start() else { return };
    let world = &build.world;
    let first = world.object(&["sync", "app"]);
    assert_eq!((&first["status"], &first["strategy"]), (&"added".into(), &"ssh".into()));
    assert_eq!(first["facts"]["development"], "true");
    assert_eq!(first["facts"]["machine"], SshServer::HOST);
    let whole = first["wire_bytes"].as_u64().unwrap();
    let again = world.object(&["sync", "app"]);
    assert_eq!((&again["status"], &again["artifact"]), (&"current".into(), &first["artifact"]));
    build.make("app", &program(2));
    let second = world.object(&["sync", "app", "--use"]);
    assert_eq!((&second["status"], &second["generation"]), (&"added".into(), &1.into()));
    assert!(second["wire_bytes"].as_u64().unwrap() < whole / 4, "{whole} {second}");
    let spec = format!("app@{}", second["version"].as_str().unwrap());
    assert_eq!(world.cat(&spec, "app"), program(2));
}

#[test]
fn a_virtual_machine_is_found_by_multipass_and_named_by_a_variable() {
    let Some(build) = Build::start() else { return };
    let world = &build.world;
    // Its configuration knows the machine by its address too.
    let config = build.machine.client_config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace(&format!("Host {}", SshServer::HOST), &format!("Host {} 127.0.0.1", SshServer::HOST)),
    )
    .unwrap();
    world.program(
        "multipass",
        b"#!/bin/sh\n\
          [ \"$1 $2 $3 $4\" = 'info builder --format json' ] || { echo 'info failed: instance \"'$2'\" does not exist' >&2; exit 2; }\n\
          echo '{\"errors\":[],\"info\":{\"builder\":{\"cpu_count\":\"2\",\"disks\":{},\"image_release\":\"24.04 LTS\",\"ipv4\":[\"127.0.0.1\"],\"state\":\"Running\"}}}'\n",
    );
    let multipass = world.path("multipass");
    let variables = [("CAIRN_MULTIPASS", multipass.to_str().unwrap()), ("SYNC_STRATEGY_APP", "vm")];
    world.run_with(&["sync", "app"], &variables).refused(3, &["elsewhere"]);
    let by_variable =
        world.run_with(&["sync", "app", "--json"], &[&variables[..], &[("VM_NAME", "builder")]].concat());
    assert_eq!(by_variable.code, 0, "{}", by_variable.err);
    assert_eq!(by_variable.rows()[0]["facts"]["machine"], "builder");
    // A flag wins.
    let flag = ["sync", "app", "--machine", "other"];
    world.run_with(&flag, &[&variables[..], &[("VM_NAME", "builder")]].concat()).refused(3, &["other"]);
}

#[test]
fn what_a_machine_lacks_is_said() {
    let Some(build) = Build::start() else { return };
    std::fs::remove_file(build.machine.home().join("out/app-cli")).unwrap();
    let ran: Ran = build.world.run(&["sync", "app", "--machine", SshServer::HOST]);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("out/app-cli"), "{}", ran.err);
    build.world.run(&["ls", "app"]).refused(3, &[]);
}
