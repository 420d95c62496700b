//! Attempts in threads: one route has at most one at a time, so that its deliveries keep their order and a server that
//! hangs delays nobody else.
//!
//! The owner is one thread. It hands over batches and takes reports; a byte in a pipe says that there is one. The threads
//! start with every signal blocked, touch nothing but their batch, and need not be waited for: a process that exits ends
//! them wherever they are.

use std::collections::HashSet;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::client::{DEADLINE, Target};
use crate::notice::{Route, Shipment};
use crate::outcome::Outcome;

/// Routes that are served at the same time.
const MOST_THREADS: usize = 16;

/// Deliveries of one route, in the order in which they are to be tried; no one depends on another's success.
#[derive(Debug)]
pub struct Batch {
    /// Where they go.
    pub route: Route,
    /// What goes there.
    pub shipments: Vec<Shipment>,
}

/// The outcome of a batch.
#[derive(Debug)]
pub struct Report {
    /// The route's name.
    pub route: String,
    /// Each delivery that was tried, by its number. The others were not tried: the route is failing, or time was up.
    pub outcomes: Vec<(i64, Outcome)>,
    /// The numbers of those that were not tried.
    pub untried: Vec<i64>,
}

/// A report, and whether a thread made it, so that its route is free again.
struct Message(bool, Report);

/// The threads, and the way back from them.
#[derive(Debug)]
pub struct Senders {
    busy: HashSet<String>,
    deadline: Duration,
    reports: Receiver<Message>,
    report: Sender<Message>,
    /// Whether there is a report that was not taken.
    news: Arc<AtomicBool>,
    wake: PipeReader,
    waker: Arc<PipeWriter>,
}

impl Senders {
    /// None running yet.
    pub fn new() -> io::Result<Self> {
        Self::with_deadline(DEADLINE)
    }

    /// Each attempt within `deadline`, and no attempt of a batch begins later than that after its first.
    pub fn with_deadline(deadline: Duration) -> io::Result<Self> {
        let (wake, waker) = io::pipe()?;
        // A full pipe wakes just as well; nobody may wait for room in it.
        for end in [wake.as_fd(), waker.as_fd()] {
            rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)?;
        }
        let (report, reports) = channel();
        Ok(Self {
            busy: HashSet::new(),
            deadline,
            reports,
            report,
            news: Arc::default(),
            wake,
            waker: Arc::new(waker),
        })
    }

    /// Readable when there is a report.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Whether there is a report, without waiting.
    #[must_use]
    pub fn has_report(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// The routes that have a batch under way.
    pub fn busy(&self) -> impl Iterator<Item = &str> {
        self.busy.iter().map(String::as_str)
    }

    /// How many more batches can be handed over now.
    #[must_use]
    pub fn room(&self) -> usize {
        MOST_THREADS.saturating_sub(self.busy.len())
    }

    /// Hands a batch over. Its route must not be busy, and there must be room; otherwise, and when no thread can be had,
    /// the report says that nothing was tried.
    pub fn send(&mut self, batch: Batch) {
        let (report, waker, deadline) = (self.report.clone(), Arc::clone(&self.waker), self.deadline);
        let news = Arc::clone(&self.news);
        let name = batch.route.name.clone();
        let numbers: Vec<i64> = batch.shipments.iter().map(|shipment| shipment.id).collect();
        let free = self.room() > 0 && !self.busy.contains(&name);
        let started = free
            && unsignalled(|| {
                thread::Builder::new().name("audit delivery".into()).spawn(move || {
                    // If nobody receives, the owner is gone.
                    let _ = report.send(Message(true, attempted(&batch, deadline)));
                    news.store(true, Ordering::Release);
                    let _ = (&*waker).write(&[1]);
                })
            })
            .is_ok();
        if started {
            self.busy.insert(name);
        } else {
            let _ = self
                .report
                .send(Message(false, Report { route: name, outcomes: Vec::new(), untried: numbers }));
            self.news.store(true, Ordering::Release);
            let _ = (&*self.waker).write(&[1]);
        }
    }

    /// The reports since the last call.
    pub fn reports(&mut self) -> Vec<Report> {
        // Cleared before the reports are taken: a report that comes meanwhile sets it again.
        self.news.store(false, Ordering::Release);
        let mut bytes = [0; 256];
        while matches!((&self.wake).read(&mut bytes), Ok(n) if n > 0) {}
        let messages: Vec<Message> = self.reports.try_iter().collect();
        messages
            .into_iter()
            .map(|Message(ran, report)| {
                if ran {
                    self.busy.remove(&report.route);
                }
                report
            })
            .collect()
    }
}

/// Runs `start` with every signal blocked; what it starts keeps them blocked.
fn unsignalled<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = start();
    before.thread_set_mask()?;
    started
}

fn attempted(batch: &Batch, deadline: Duration) -> Report {
    let mut outcomes = Vec::new();
    // A panic is a defect of ours or of a library; the delivery must not be lost with the thread.
    let done = catch_unwind(AssertUnwindSafe(|| attempt_each(batch, deadline, &mut outcomes)));
    if done.is_err()
        && let Some(shipment) = batch.shipments.get(outcomes.len())
    {
        outcomes.push((shipment.id, Outcome::retry("the attempt ended in a defect of the sender")));
    }
    let untried = batch.shipments[outcomes.len()..].iter().map(|shipment| shipment.id).collect();
    Report { route: batch.route.name.clone(), outcomes, untried }
}

fn attempt_each(batch: &Batch, deadline: Duration, outcomes: &mut Vec<(i64, Outcome)>) {
    let begun = Instant::now();
    let target = Target::open_within(&batch.route, deadline);
    for shipment in &batch.shipments {
        let outcome = match &target {
            Ok(target) => target.send(shipment),
            Err(error) => Outcome::retry(error.as_str()),
        };
        let stop = matches!(outcome, Outcome::Retry { .. });
        outcomes.push((shipment.id, outcome));
        if stop || begun.elapsed() > deadline {
            return;
        }
    }
}
