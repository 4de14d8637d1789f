//! Names that a peer shows as they were before something newer that is known here.

use cairn_net::{Error, Kind};
use cairn_store::writer::PulledOptions;
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};

use crate::honest::Honest;
use crate::pulls::{net, publish, tree};

#[test]
fn a_ref_that_was_something_newer_is_refused() {
    let scratch = Scratch::new();
    let (there, old) = publish(&scratch, "there", "1", 2, 100_000);
    let honest = Honest::new(there.store());
    // The same name with other content, as its publisher says later.
    let folder = scratch.join("newer");
    tree(&folder, 3, 100_000);
    let (other, newer) = (writer(&scratch.join("other")), options("app", "1"));
    let newer = add(&other, &folder, &newer).artifact;
    let fresh = Honest { seq: 11, ..Honest::new(other.store()) }.serve();
    let stale = Honest { seq: 10, ..honest.clone() }.serve();
    let here = writer(&scratch.join("here"));
    let (net, spec) = (net(), "app@1".parse().unwrap());

    let from = [stale.source(), fresh.source()];
    let resolved = net.resolve(&from, &spec, None).unwrap();
    assert_eq!(resolved.artifact, newer, "of one origin, the later statement counts");
    assert_eq!(resolved.holders, [fresh.source()]);
    let plan = net.plan(&here, &resolved.holders, &resolved, &()).unwrap();
    net.pull(&here, plan, &()).unwrap();
    here.publish_pulled(&resolved.artifact, &resolved.envelopes, &PulledOptions::default()).unwrap();

    let resolved = net.resolve(&[stale.source()], &spec, None).unwrap();
    assert_eq!(resolved.artifact, old);
    let error = net.plan(&here, &resolved.holders, &resolved, &()).unwrap_err();
    assert!(matches!(&error, Error::RolledBack { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains(stale.url().as_str()), "{error}");
    // The same number with other content is no better.
    let same = Honest { seq: 11, ..honest }.serve();
    let resolved = net.resolve(&[same.source()], &spec, None).unwrap();
    let error = net.plan(&here, &resolved.holders, &resolved, &()).unwrap_err();
    assert!(matches!(&error, Error::RolledBack { .. }), "{error}");
}

#[test]
fn statements_that_contradict_the_question_are_refused() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "1", 2, 1000);
    let honest = Honest::new(there.store());
    let view = there.store().view().unwrap();
    let key = view.refs.keys().next().unwrap().clone();
    let answer = honest.stated(&key, artifact, "1");
    let server = crate::fixture::Server::start(move |_, reply| crate::honest::json(reply, 200, &answer));
    for spec in ["app@2", "app@stable", "other@1"] {
        let error = net().resolve(&[server.source()], &spec.parse().unwrap(), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{spec}: {error}");
        assert!(error.to_string().contains(server.url().as_str()), "{error}");
    }
    let other = "darwin/aarch64".parse().unwrap();
    assert!(net().resolve(&[server.source()], &"app@1".parse().unwrap(), Some(&other)).is_err());
}
