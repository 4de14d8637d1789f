//! Generations from the command line, without a mount: numbers, changes, codes, hints, JSON.

use harness::program::{finish, text};
use serde_json::{Value, json};

use crate::world::World;

fn current(world: &World) -> Value {
    let listed = world.json(&["generations"]);
    let current: Vec<_> = listed.iter().filter(|one| one["current"] == true).collect();
    assert_eq!(current.len(), 1, "{listed:?}");
    current[0].clone()
}

#[test]
fn each_use_makes_a_generation_and_says_what_changed() {
    let world = World::new();
    let said = world.good(&["use", "hello@1", "world@1"]);
    assert_eq!(said, "generation 1, the first\n  hello  1 added\n  world  1 added\n");
    let said = world.good(&["use", "hello@stable"]);
    assert_eq!(said, "generation 1 -> 2\n  hello  1 -> 2\n");
    assert_eq!(world.good(&["use", "hello@2"]), "generation 2 stays: nothing changes\n");
    let said = world.good(&["remove", "world"]);
    assert_eq!(said, "generation 2 -> 3\n  world  1 removed\n");
    assert_eq!(world.good(&["-q", "use", "world@1"]), "");
    assert_eq!(current(&world)["generation"], 4);
}

#[test]
fn the_json_of_a_switch_has_its_documented_fields() {
    let world = World::new();
    let first = &world.json(&["use", "hello@1"])[0];
    assert_eq!(first["from"], Value::Null);
    assert_eq!(
        (&first["profile"], &first["to"], &first["changed"]),
        (&json!("default"), &json!(1), &json!(true))
    );
    let change = &first["changes"][0];
    assert_eq!((&change["name"], &change["change"]), (&json!("hello"), &json!("added")));
    assert_eq!(change["from"], Value::Null);
    assert_eq!(change["to"]["version"], "1");
    assert_eq!(change["to"]["artifact"].as_str().unwrap().len(), 64);
    assert!(change["to"]["platform"].as_str().unwrap().contains('/'));
    let again = &world.json(&["use", "hello@1"])[0];
    assert_eq!((&again["changed"], &again["seq"]), (&json!(false), &Value::Null));
}

#[test]
fn rollback_and_switch_go_back_and_forth_without_a_new_generation() {
    let world = World::new();
    world.bad(3, &["rollback"]);
    for spec in ["hello@1", "hello@2", "world@1"] {
        world.good(&["use", spec]);
    }
    let said = world.good(&["rollback"]);
    assert!(said.starts_with("generation 3 -> 2, made 2") && said.contains("world  1 removed"), "{said}");
    world.good(&["rollback", "--to", "1"]);
    let said = world.bad(5, &["rollback"]);
    assert!(said.contains("before 1"), "{said}");
    let said = world.good(&["switch", "3"]);
    assert!(said.starts_with("generation 1 -> 3\n"), "{said}");
    let said = world.bad(3, &["switch", "9"]);
    assert!(said.contains("no generation 9") && said.contains("hint: `cairn generations"), "{said}");
    assert_eq!(world.json(&["generations"]).len(), 3);
}

#[test]
fn somebody_elses_change_is_noticed() {
    let world = World::new();
    world.good(&["use", "hello@1", "--if-current", "0"]);
    world.bad(5, &["use", "hello@2", "--if-current", "0"]);
    world.good(&["use", "hello@2", "--if-current", "1"]);
    world.bad(5, &["remove", "hello", "--if-current", "1"]);
    world.bad(5, &["switch", "1", "--if-current", "1"]);
    world.good(&["switch", "1", "--if-current", "2"]);
}

#[test]
fn two_packages_with_one_command_are_a_conflict_until_one_is_preferred() {
    let world = World::new();
    world.good(&["use", "hello@1"]);
    let said = world.bad(5, &["use", "rival@1"]);
    assert!(said.contains("\"hello\"") && said.contains("hello and rival"), "{said}");
    assert!(said.contains("hint: ") && said.contains("--prefer rival"), "{said}");
    let error: Value = serde_json::from_str(&world.bad(5, &["use", "rival@1", "--json"])).unwrap();
    assert_eq!(error["error"]["kind"], "conflict");
    world.good(&["use", "rival@1", "--prefer", "rival"]);
    world.good(&["use", "hello@2"]);
    assert_eq!(current(&world)["preferred"], json!(["rival"]), "it stays preferred");
    world.bad(3, &["use", "hello@1", "--prefer", "nobody"]);
}

#[test]
fn what_is_absent_or_for_another_machine_is_not_used() {
    let world = World::new();
    world.bad(3, &["use", "hello@9"]);
    world.bad(3, &["use", "nobody@1"]);
    world.bad(2, &["use", "hello"]);
    world.bad(2, &["use"]);
    world.bad(2, &["use", "hello@1", "hello@2"]);
    world.good(&["use", "hello@1"]);
    let said = world.bad(3, &["remove", "world"]);
    assert!(said.contains("no package world"), "{said}");
    world.good(&["add", "hello-1", "--name", "far", "--version", "1", "--platform", "plan9/vax"]);
    let said = world.bad(2, &["use", "far@1"]);
    assert!(said.contains("plan9/vax") && said.contains("--platform"), "{said}");
    world.good(&["use", "far@1", "--profile", "far", "--platform", "plan9/vax"]);
}

#[test]
fn profiles_do_not_touch_each_other() {
    let world = World::new();
    world.good(&["use", "hello@1"]);
    let said = world.good(&["use", "hello@2", "--profile", "canary"]);
    assert!(said.starts_with("generation 1 of profile canary, the first\n"), "{said}");
    let mut named = world.command(&["generations", "--json"]);
    let output = finish(named.env("CAIRN_PROFILE", "canary").spawn().unwrap());
    assert!(text(&output.stdout).contains(r#""profile":"canary""#));
    assert_eq!(current(&world)["changes"][0]["to"]["version"], "1");
    world.bad(3, &["generations", "--profile", "nobody"]);
    world.bad(2, &["use", "hello@1", "--profile", "No Name"]);
}

#[test]
fn generations_are_listed_with_marks_and_their_packages() {
    let world = World::new();
    world.bad(3, &["generations"]);
    world.good(&["use", "hello@1", "world@1"]);
    world.good(&["use", "hello@2"]);
    world.good(&["pin", "1"]);
    let said = world.good(&["generations"]);
    let rows: Vec<&str> = said.lines().collect();
    assert_eq!(rows.len(), 3, "{said}");
    assert!(rows[1].contains("pinned") && rows[1].contains("hello 1 added, world 1 added"), "{said}");
    assert!(rows[2].contains("current") && rows[2].contains("hello 1 -> 2"), "{said}");
    let one = &world.json(&["generations", "2"])[0];
    assert_eq!((&one["parent"], &one["package_count"]), (&json!(1), &json!(2)));
    assert_eq!(one["packages"]["hello"]["version"], "2");
    assert_eq!(one["packages"]["world"]["version"], "1");
    assert_eq!(world.json(&["generations"])[0].get("packages"), None);
    assert!(world.good(&["generations", "2"]).contains("current"));
    world.bad(3, &["generations", "7"]);
}

#[test]
fn pruning_leaves_the_current_the_pinned_and_the_newest() {
    let world = World::new();
    for spec in ["hello@1", "hello@2", "hello@1", "hello@2", "hello@1"] {
        world.good(&["use", spec]);
    }
    assert_eq!(world.good(&["pin", "2"]), "generation 2 is pinned\n");
    assert_eq!(world.good(&["pin", "2"]), "generation 2 is pinned, as before\n");
    world.bad(3, &["pin", "9"]);
    world.good(&["switch", "1"]);
    let plan = &world.json(&["prune", "--keep", "1", "--dry-run"])[0];
    assert_eq!(
        (&plan["removed"], &plan["dry_run"], &plan["seq"]),
        (&json!([3, 4]), &json!(true), &Value::Null)
    );
    let why: Vec<_> = plan["kept"].as_array().unwrap().iter().map(|kept| kept["why"].clone()).collect();
    assert_eq!(why, [json!("current"), json!("pinned"), json!("newest")]);
    assert_eq!(world.json(&["generations"]).len(), 5, "nothing happened");
    let said = world.good(&["prune", "--keep", "1"]);
    assert_eq!(said, "removed 2 generations: 3, 4\nkept 1 (current), 2 (pinned), 5 (newest)\n");
    assert_eq!(world.good(&["unpin", "2"]), "generation 2 is not pinned\n");
    assert_eq!(world.json(&["prune", "--keep", "0"])[0]["removed"], json!([2, 5]));
    world.good(&["use", "hello@2"]);
    assert_eq!(current(&world)["generation"], 6, "numbers are never given twice");
}
