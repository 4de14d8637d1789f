//! A real database that is written to meanwhile, by the commands of docs/operations.md.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use harness::program::{finish, text, until};

use crate::world::World;

fn has_sqlite() -> bool {
    let has = Command::new("sqlite3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("SKIPPED: this takes sqlite3");
    }
    has
}

fn sqlite(database: &Path, statements: &str) -> String {
    let child = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 30000"])
        .arg(database)
        .arg(statements)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = finish(child.unwrap());
    assert!(output.status.success(), "{statements}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// A database of moves that always come to 0.
fn world(journal: &str) -> World {
    let world = World::new();
    let make = "CREATE TABLE moves(id INTEGER PRIMARY KEY, a, b); INSERT INTO moves(a, b) VALUES (1, -1);";
    sqlite(&world.path("live/state.sqlite"), &format!("PRAGMA journal_mode={journal}; {make}"));
    world
}

/// Does `work` while somebody moves money all the time.
fn while_it_is_written(world: &World, work: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (over, database) = (AtomicBool::new(false), world.path("live/state.sqlite"));
    let count = || sqlite(&database, "SELECT count(*) FROM moves").parse::<u64>().unwrap();
    std::thread::scope(|scope| {
        let stop = Stop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                sqlite(
                    &database,
                    "BEGIN IMMEDIATE; INSERT INTO moves(a, b) VALUES (abs(random()) % 1000, 0); \
                     UPDATE moves SET b = -a WHERE id = last_insert_rowid(); COMMIT;",
                );
            }
        });
        let before = count();
        until("rows", || count() > before + 3);
        work();
        let before = count();
        until("more rows: nobody is frozen", || count() > before + 3);
        drop(stop);
    });
}

/// What was written out is a database of one moment; gives its rows.
fn check(exported: &Path) -> u64 {
    let database = exported.join("state.sqlite");
    assert_eq!(sqlite(&database, "PRAGMA integrity_check"), "ok");
    assert_eq!(sqlite(&database, "SELECT sum(a + b), count(*) = max(id) FROM moves"), "0|1");
    sqlite(&database, "SELECT count(*) FROM moves").parse().unwrap()
}

/// Stops writers by the lock that they take; `frozen` is there for as long as it holds.
fn freeze(world: &World) -> (String, String) {
    let (frozen, held) = (world.at("frozen"), world.at("held"));
    let freeze = format!(
        "touch {frozen}; {{ echo 'BEGIN IMMEDIATE;'; echo '.system touch {held}'; while test -e {frozen}; do sleep 0.02; done; }} \
         | sqlite3 -bail -cmd '.timeout 30000' $CAIRN_DIR/state.sqlite > /dev/null 2>&1 & until test -e {held}; do sleep 0.02; done"
    );
    (freeze, format!("rm -f {frozen} {held}"))
}

#[test]
fn sqlite_is_frozen_by_its_own_lock() {
    if !has_sqlite() {
        return;
    }
    let world = world("delete");
    let (freeze, thaw) = freeze(&world);
    while_it_is_written(&world, || {
        for round in ["1", "2"] {
            let create = ["snapshot", "create", "state", "live", "--round", round];
            world.good(&[&create[..], &["--freeze", &freeze, "--thaw", &thaw]].concat());
        }
    });
    let (first, second) = (check(&world.export("state@1")), check(&world.export("state@2")));
    assert!(first > 3 && second >= first, "{first} {second}");
}

#[test]
fn sqlite_with_a_log_is_copied_while_its_lock_is_held() {
    if !has_sqlite() {
        return;
    }
    let world = world("wal");
    let (freeze, thaw) = freeze(&world);
    let copy = "mkdir $CAIRN_CHECKPOINT && cp -p $CAIRN_DIR/state.sqlite $CAIRN_DIR/state.sqlite-wal $CAIRN_CHECKPOINT";
    let vacuum = "mkdir $CAIRN_CHECKPOINT && sqlite3 -cmd '.timeout 30000' $CAIRN_DIR/state.sqlite \
                  \"VACUUM INTO '$CAIRN_CHECKPOINT/state.sqlite'\"";
    while_it_is_written(&world, || {
        let create = ["snapshot", "create", "state", "live", "--round", "1", "--checkpoint-cmd", copy];
        world.good(&[&create[..], &["--freeze", &freeze, "--thaw", &thaw]].concat());
        world.good(&["snapshot", "create", "state", "live", "--round", "2", "--checkpoint-cmd", vacuum]);
    });
    let (first, second) = (check(&world.export("state@1")), check(&world.export("state@2")));
    assert!(first > 3 && second >= first, "{first} {second}");
}
