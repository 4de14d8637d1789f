//! Requests that come while one server gives way to another.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Refusal;
use crate::socket::{Listening, Prepared};
use crate::{About, Caller, Client, Commands, Event, JobIo, Jobs, Limits, Request};

/// Says who it is, and how long its input was.
struct Echo(&'static str);

impl Commands for Echo {
    type Command = ();

    fn run(&self, _: Request<()>, _: Caller, io: JobIo) -> u8 {
        let mut sum = 0_u64;
        let mut bytes = Vec::new();
        io.take_input().unwrap().read_to_end(&mut bytes).unwrap();
        bytes.iter().for_each(|byte| sum += u64::from(*byte));
        io.out(format!("{} {} {sum}", self.0, bytes.len()).as_bytes()).unwrap();
        0
    }
}

fn start(name: &'static str, listening: Listening, jobs: &Arc<Jobs>) -> oneshot::Sender<()> {
    let limits = Limits { jobs: 4, ..Limits::default() };
    let about = About { version: "0", store: "store".into(), started: Instant::now() };
    let router = crate::router(Arc::new(Echo(name)), Arc::clone(jobs), limits.clone(), about);
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
            Duration::ZERO
        };
        listening.serve(router, &limits, stopped).await.unwrap();
    });
    stop
}

fn request() -> Request<()> {
    Request { json: false, quiet: false, verbose: 0, progress: false, wait_ms: 0, command: () }
}

/// Sends a request with so much input; gives what was answered.
async fn ask(socket: &Path, input: Vec<u8>) -> String {
    let mut client = Client::connect(socket).unwrap().unwrap();
    let mut answer = client.run(&request(), Some(Box::new(Cursor::new(input)))).await.unwrap();
    let mut said = String::new();
    while let Some(event) = answer.next().await.unwrap() {
        match event {
            Event::Out(text) => said.push_str(&text),
            Event::Exit(code) => assert_eq!(code, 0),
            _ => {}
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_is_sent_to_the_successor_with_all_of_its_input() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let (old, new) = (Jobs::new(4), Jobs::new(4));
    let stop_old = start("old", Listening::open(&socket, None).unwrap(), &old);
    let input: Vec<u8> = (0..5_000_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    let sum: u64 = input.iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(ask(&socket, input.clone()).await, format!("old {} {sum}", input.len()));
    let hold = old.hold().unwrap();
    let waiting: Vec<_> = [0, 10, input.len()]
        .into_iter()
        .map(|len| {
            let (socket, input) = (socket.clone(), input[..len].to_vec());
            tokio::spawn(async move { (len, ask(&socket, input).await) })
        })
        .collect();
    let prepared = Prepared::new(&socket, None).unwrap();
    hold.moved();
    // Who comes in between is sent on as well.
    let late = tokio::spawn({
        let socket = socket.clone();
        async move { ask(&socket, Vec::new()).await }
    });
    let stop_new = start("new", prepared.place().unwrap(), &new);
    for waiting in waiting {
        let (len, said) = waiting.await.unwrap();
        assert!(said.starts_with(&format!("new {len} ")), "{said}");
    }
    assert_eq!(late.await.unwrap(), "new 0 0");
    assert_eq!(old.count(), 0);
    drop((stop_old, stop_new));
}

#[tokio::test]
async fn what_is_held_begins_when_nobody_takes_over_and_counts_as_running_from_its_admission() {
    let jobs = Jobs::new(1);
    let hold = jobs.hold().unwrap();
    assert!(jobs.hold().is_none(), "one at a time");
    let admit = jobs.admit(Duration::ZERO, 0);
    let mut admit = std::pin::pin!(admit);
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut admit).await.is_err());
    assert_eq!(jobs.count(), 0);
    drop(hold);
    let admitted = admit.await.unwrap();
    assert_eq!(jobs.count(), 1);
    let hold = jobs.hold().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(10), jobs.idle()).await.is_err());
    drop(admitted);
    jobs.idle().await;
    // A server that stops moves nobody.
    jobs.close();
    hold.moved();
    assert!(matches!(jobs.admit(Duration::ZERO, 0).await, Err(Refusal::Stopping)));
}

#[tokio::test]
async fn who_wants_to_hold_next_waits_for_the_hold_that_there_is() {
    let jobs = Jobs::new(1);
    let first = jobs.hold().unwrap();
    let mut second = std::pin::pin!(jobs.hold_next());
    assert!(tokio::time::timeout(Duration::ZERO, &mut second).await.is_err());
    drop(first);
    let second = second.await.unwrap();
    let mut third = std::pin::pin!(jobs.hold_next());
    assert!(tokio::time::timeout(Duration::ZERO, &mut third).await.is_err());
    second.moved();
    assert!(third.await.is_none());
    assert!(jobs.hold_next().await.is_none());
}
