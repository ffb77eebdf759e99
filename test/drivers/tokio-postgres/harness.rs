//! The frame of the program: arguments, clients, one line per step.
//!
//! A client is a task per step; the next step begins when all clients have ended this one. Who fails in a step loses
//! its session and opens another, so that one failure does not spoil the rest.

use crate::session::{Canceler, Session};
use futures_util::future::BoxFuture;
use std::{fmt, process, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time};
use tokio_postgres::error::Error;

/// Time zones, and noon of a winter's day there.
pub const ZONES: [(&str, &str); 5] = [
    ("UTC", "2026-01-15 12:00:00+00"),
    ("Europe/Zurich", "2026-01-15 13:00:00+01"),
    ("America/New_York", "2026-01-15 07:00:00-05"),
    ("Asia/Tokyo", "2026-01-15 21:00:00+09"),
    ("Asia/Kolkata", "2026-01-15 17:30:00+05:30"),
];

/// The size of a large value in bytes.
pub const LARGE: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Default,
    Prepared,
    Pipeline,
}

/// Why a client did not do a step.
#[derive(Debug)]
pub enum Failure {
    /// Something else came than was expected.
    Wrong(String),
    /// The driver says that something went wrong where nothing should.
    Driver(Error),
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Driver(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Wrong(text) => to.write_str(text),
            Failure::Driver(error) => write!(to, "expected no error, got {} {}", self.state(), error),
        }
    }
}

impl Failure {
    /// Its SQLSTATE, or nothing.
    pub fn state(&self) -> &str {
        match self {
            Failure::Driver(error) => error.code().map_or("", |state| state.code()),
            Failure::Wrong(_) => "",
        }
    }
}

pub fn wrong<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::Wrong(text.into()))
}

/// Fails unless both are equal.
pub fn same<T: PartialEq + fmt::Debug>(what: &str, expected: T, got: T) -> Outcome {
    if expected == got {
        return Ok(());
    }
    let [expected, got] = [expected, got].map(|value| shorten(&format!("{:?}", value)));
    wrong(format!("expected {}, got {} [{}]", expected, got, what))
}

/// Fails unless this is an error with that SQLSTATE.
pub fn fails<T>(what: &str, state: &str, result: Outcome<T>) -> Outcome {
    match result {
        Ok(_) => wrong(format!("expected {}, got no error [{}]", state, what)),
        Err(failure) if failure.state() == state => Ok(()),
        Err(Failure::Wrong(text)) => wrong(text),
        Err(failure) => wrong(format!("expected {}, not this: {} [{}]", state, failure, what)),
    }
}

fn shorten(text: &str) -> String {
    let line = text.replace('\n', " ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}... ({} bytes)", &line[..end], line.len()),
        None => line,
    }
}

/// One of the concurrent clients.
pub struct Who {
    pub number: usize,
    pub tag: String,
    pub mode: Mode,
    prefix: String,
}

impl Who {
    /// The name of a table or the like of this client alone.
    pub fn named(&self, name: &str) -> String {
        format!("{}_{}_{}", self.prefix, name, self.number)
    }
}

/// The arguments of the program.
struct Options {
    mode: Mode,
    clients: usize,
    id: String,
    only: Vec<String>,
}

fn usage(why: &str) -> ! {
    eprintln!("{}; arguments: --mode default|prepared|pipeline --clients N --id TAG [--step NAME]...", why);
    process::exit(2)
}

impl Options {
    fn parse() -> Options {
        let mut options = Options { mode: Mode::Default, clients: 1, id: "rust".to_string(), only: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(name) = words.next() {
            let value = words.next().unwrap_or_else(|| usage("an argument without a value"));
            match (name.as_str(), value.as_str()) {
                ("--mode", "default") => options.mode = Mode::Default,
                ("--mode", "prepared") => options.mode = Mode::Prepared,
                ("--mode", "pipeline") => options.mode = Mode::Pipeline,
                ("--clients", count) => options.clients = count.parse().unwrap_or_else(|_| usage("not a number")),
                ("--id", _) => options.id = value,
                ("--step", _) => options.only.push(value),
                _ => usage("unknown argument"),
            }
        }
        options
    }
}

/// What runs a step by its name.
pub type Perform = for<'a> fn(&'a str, &'a Who, &'a mut Session) -> BoxFuture<'a, Outcome>;

/// Runs the steps with all clients and ends the program.
pub async fn run(steps: &'static [&'static str], perform: Perform) -> ! {
    let options = Options::parse();
    println!("version tokio-postgres {}", env!("DRIVER_VERSION"));
    let mut clients: Vec<_> = (0..options.clients)
        .map(|number| {
            let tag = format!("{}-{}", options.id, number);
            (Arc::new(Who { number, tag, mode: options.mode, prefix: options.id.clone() }), None)
        })
        .collect();
    let mut good = true;
    for step in steps.iter().filter(|step| options.only.is_empty() || options.only.iter().any(|name| name == *step)) {
        good &= run_step(step, perform, &mut clients).await;
    }
    for session in clients.into_iter().filter_map(|(_, session)| session) {
        session.close().await;
    }
    process::exit(if good { 0 } else { 1 })
}

/// Runs a step with all clients and prints its line; false when it failed.
async fn run_step(step: &'static str, perform: Perform, clients: &mut [(Arc<Who>, Option<Session>)]) -> bool {
    let tasks: Vec<_> = clients
        .iter_mut()
        .map(|(who, session)| tokio::spawn(attempt(step, perform, who.clone(), session.take())))
        .collect();
    let mut failures = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(Ok(session)) => clients[number].1 = Some(session),
            Ok(Err(failure)) => failures.push((number, failure.to_string())),
            Err(panic) => failures.push((number, panic.to_string())),
        }
    }
    match failures.first() {
        None => println!("ok {}", step),
        Some((number, text)) => {
            let more = failures.len() - 1;
            let more = if more > 0 { format!(", and {} more", more) } else { String::new() };
            println!("FAIL {}: {} (client {}{})", step, shorten(text), number, more);
        }
    }
    failures.is_empty()
}

async fn attempt(step: &str, perform: Perform, who: Arc<Who>, session: Option<Session>) -> Outcome<Session> {
    let mut session = match session {
        Some(session) => session,
        None => Session::connect(&who).await?,
    };
    perform(step, &who, &mut session).await?;
    Ok(session)
}

/// Cancels at once and every 200 ms until told to end. The clock is for the server, which ignores a request that
/// arrives before the statement does.
pub async fn cancel_until(canceler: Canceler, mut ended: oneshot::Receiver<()>) -> Outcome {
    loop {
        canceler.send().await?;
        if time::timeout(Duration::from_millis(200), &mut ended).await.is_ok() {
            return Ok(());
        }
    }
}
