//! A store on a disk without a free byte: it is read, what takes names away works, nothing else happens, and nothing of
//! that ends its writer, whatever crashes meanwhile.

use std::path::Path;

use cairn_store::io::Sim;
use cairn_store::{Channel, ProfileName, RefKey, Result, Store, UseOptions, Writer};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, read_file, with_threads, writer_on};

const STORE: &str = "/srv/store";
const VERSIONS: usize = 6;

fn key(version: usize) -> RefKey {
    let platform = "linux/x86_64".parse().unwrap();
    RefKey { name: "app".parse().unwrap(), version: version.to_string().parse().unwrap(), platform }
}

fn channel() -> cairn_store::ChannelKey {
    let RefKey { name, platform, .. } = key(1);
    let channel: Channel = "stable".parse().unwrap();
    cairn_store::ChannelKey { name, channel, platform }
}

/// Versions, generations, a pin and a channel, then not a byte is free: not even what the journal took ahead.
fn full_machine(scratch: &Scratch) -> Sim {
    let machine = Sim::new(1);
    let writer = writer_on(machine.clone(), Path::new(STORE)).unwrap();
    let profile = ProfileName::default();
    for version in 1..=VERSIONS {
        let tree = scratch.join(version.to_string());
        let seed = u8::try_from(version).unwrap();
        let file = |len, seed| Plan::File(Fill::Noise(seed), len, 0o755);
        make(
            &tree,
            &Folder::from([
                (b"app".to_vec(), file(70_000, u64::from(seed))),
                (b"same".to_vec(), file(9_000, 99)),
            ]),
        );
        add(&writer, &tree, &with_threads(1, options("app", &version.to_string())));
        let (key, artifact) = (key(version), writer.names().refs[&key(version)].artifact);
        let set = vec![(key.clone(), artifact)];
        writer
            .use_packages(&UseOptions { set, platform: Some(key.platform), ..UseOptions::default() })
            .unwrap();
    }
    writer.pin(&profile, 1).unwrap();
    writer.tag(&key(VERSIONS), &channel().channel).unwrap();
    machine.settle();
    machine.fill();
    // Until nothing more is named.
    for number in 0.. {
        let name = format!("c{number}").parse().unwrap();
        if let Err(error) = writer.tag(&key(VERSIONS), &name) {
            assert!(error.is_disk_full(), "{error}");
            break;
        }
    }
    machine.settle();
    machine
}

/// Everything that takes away, each once, as far as it is still there.
fn take_away(machine: &Sim) -> Result<()> {
    let profile = ProfileName::default();
    let writer = writer_on(machine.clone(), Path::new(STORE))?;
    let view = writer.names();
    if view.channels.contains_key(&channel()) {
        writer.remove_channel(&channel())?;
    }
    if view.profiles[&profile].pins.contains(&1) {
        writer.unpin(&profile, 1)?;
    }
    writer.prune(&writer.plan_prune(&profile, 1)?)?;
    drop(writer);
    let writer = writer_on(machine.clone(), Path::new(STORE))?;
    for version in 1..VERSIONS {
        if writer.names().refs.contains_key(&key(version)) {
            writer.remove_ref(&key(version), true)?;
        }
    }
    Ok(())
}

fn check_done(machine: &Sim) {
    let store = Store::open_with(std::sync::Arc::new(machine.clone()), Path::new(STORE)).unwrap();
    let view = store.view().unwrap();
    assert_eq!(view.refs.keys().collect::<Vec<_>>(), [&key(VERSIONS)]);
    assert_eq!(view.profiles[&ProfileName::default()].generations.len(), 1);
    assert!(!view.channels.contains_key(&channel()));
    assert_sound(&store);
    assert_eq!(read_file(&store, &view.refs[&key(VERSIONS)].artifact, b"app").unwrap().len(), 70_000);
}

#[test]
fn what_takes_away_works_without_a_free_byte() {
    let scratch = Scratch::in_memory();
    let machine = full_machine(&scratch);
    let tree = scratch.folder("more");
    std::fs::write(tree.join("new"), harness::bytes::noise(77, 50_000)).unwrap();
    let writer: Writer = writer_on(machine.clone(), Path::new(STORE)).unwrap();
    for _ in 0..2 {
        let refused = writer.ingest(at(&tree), &with_threads(1, options("new", "1")), &()).unwrap_err();
        assert!(refused.is_disk_full(), "{refused}");
        let refused = writer.pin(&ProfileName::default(), 2).unwrap_err();
        assert!(refused.is_disk_full(), "{refused}");
    }
    assert_sound(&writer);
    drop(writer);
    take_away(&machine).unwrap();
    check_done(&machine);
    // With room again, all is as ever.
    machine.heal();
    let writer = writer_on(machine.clone(), Path::new(STORE)).unwrap();
    add(&writer, &tree, &with_threads(1, options("new", "1")));
    assert_sound(&writer);
}

#[test]
fn crashes_of_it_lose_nothing() {
    let scratch = Scratch::in_memory();
    let full = full_machine(&scratch);
    let machine = full.reboot(0);
    take_away(&machine).unwrap();
    let (operations, syncs) = (machine.operations(), machine.syncs());
    assert!(syncs > 10, "{syncs}");
    let mut runs = 0;
    for n in 1..=operations + syncs {
        for seed in 0..4 {
            let machine = full.reboot(0);
            if n <= operations {
                machine.crash_at_operation(n);
            } else {
                machine.crash_at_sync(n - operations);
            }
            let _ = take_away(&machine);
            let machine = machine.reboot(seed);
            take_away(&machine).unwrap_or_else(|error| panic!("crash {n}, seed {seed}: {error}"));
            check_done(&machine);
            runs += 1;
        }
    }
    eprintln!("{runs} crashes of removals on a full disk");
}
