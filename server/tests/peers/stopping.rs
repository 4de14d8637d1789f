//! How a server ends: what runs goes on, what is new is refused, and then it is over.

use std::io::Read;
use std::time::{Duration, Instant};

use cairn_server::PeerLimits;
use harness::program::until;

use crate::http::{PATIENCE, connect, get, receive, send};
use crate::served::{Folder, Setup};

#[test]
fn transfers_go_on_and_new_requests_are_refused() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 32 << 20);
    let mut served = folder.serve(Setup::default());
    let path = format!("/v1/delta/none/{artifact}");
    let whole = get(served.address, &path).body.len();
    let mut running = connect(served.address);
    send(&mut running, "GET", &path, &[], b"");
    let mut begun = [0; 5000];
    running.read_exact(&mut begun).unwrap();
    let mut idle = connect(served.address);
    send(&mut idle, "GET", "/v1/peer", &[], b"");
    assert_eq!(receive(&mut idle, false).unwrap().status, 200);
    served.stop(PATIENCE);
    until("it says that it stops", || get(served.address, "/readyz").status == 503);
    let refused = get(served.address, "/v1/peer");
    assert_eq!((refused.status, refused.kind().as_str()), (503, "busy"));
    assert_eq!(refused.header("retry-after"), "5");
    send(&mut idle, "GET", "/v1/peer", &[], b"");
    assert_eq!(receive(&mut idle, false).unwrap().status, 503);
    assert_eq!(get(served.address, "/healthz").status, 200);
    let mut stream = begun.chain(&mut running);
    assert_eq!(receive(&mut stream, false).unwrap().body.len(), whole);
    served.ended();
    std::net::TcpStream::connect(served.address).unwrap_err();
}

#[test]
fn a_grace_that_ends_cuts_off_what_still_runs() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 32 << 20);
    let mut served = folder.serve(Setup::default());
    let mut running = connect(served.address);
    send(&mut running, "GET", &format!("/v1/delta/none/{artifact}"), &[], b"");
    running.read_exact(&mut [0; 100]).unwrap();
    let began = Instant::now();
    served.stop(Duration::from_millis(300));
    served.ended();
    assert!(began.elapsed() >= Duration::from_millis(300));
    let mut rest = Vec::new();
    // What was on its way comes, and then the connection ends.
    let _ = running.read_to_end(&mut rest);
    assert!(rest.len() < 32 << 20);
}

#[test]
fn nobody_is_waited_for_where_nothing_runs() {
    let folder = Folder::new();
    let mut served = folder.serve(Setup { limits: PeerLimits::default(), ..Setup::default() });
    let _idle = connect(served.address);
    served.stop(Duration::from_secs(3600));
    served.ended();
}
