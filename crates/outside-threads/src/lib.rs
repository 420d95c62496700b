//! One thread for each party outside, so that one that hangs delays no other, and nobody waits for any.
//!
//! The owner is one thread. It hands over work and takes reports; a byte in a pipe says that there is one. The threads start
//! with every signal blocked, touch nothing but their own state and their work, and need not be waited for: a process that
//! exits ends them wherever they are.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow};

/// What a thread does with its work. State that it keeps between two pieces of work is its own.
pub type Perform<Work, Told> = Box<dyn FnMut(Work) -> Told + Send>;

struct Lane<Work> {
    /// Tells a lane from one of the same name that was let go of before.
    number: u64,
    work: Sender<Work>,
    busy: bool,
}

/// What a thread sends back; nothing came of work that ended in a panic.
struct Report<Told> {
    lane: u64,
    name: String,
    told: Option<Told>,
}

/// The threads, and the way back from them.
pub struct Lanes<Work, Told> {
    lanes: BTreeMap<String, Lane<Work>>,
    next: AtomicU64,
    reports: Receiver<Report<Told>>,
    report: Sender<Report<Told>>,
    /// Whether there is a report that nobody took.
    news: Arc<AtomicBool>,
    wake: PipeReader,
    waker: Arc<PipeWriter>,
}

impl<Work, Told> std::fmt::Debug for Lanes<Work, Told> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").field("lanes", &self.lanes.keys()).finish_non_exhaustive()
    }
}

impl<Work: Send + 'static, Told: Send + 'static> Lanes<Work, Told> {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        let (wake, waker) = io::pipe()?;
        // A full pipe wakes just as well; nobody may wait for room in it.
        for end in [wake.as_fd(), waker.as_fd()] {
            rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)?;
        }
        let (report, reports) = channel();
        Ok(Self {
            lanes: BTreeMap::new(),
            next: AtomicU64::new(0),
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

    /// Whether the lane still has work.
    #[must_use]
    pub fn is_busy(&self, name: &str) -> bool {
        self.lanes.get(name).is_some_and(|lane| lane.busy)
    }

    /// Whether there is such a lane.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.lanes.contains_key(name)
    }

    /// Hands `work` to the lane, which must not be busy. `begin` makes what a new lane does with its work.
    pub fn give(
        &mut self,
        name: &str,
        work: Work,
        begin: impl FnOnce() -> Perform<Work, Told>,
    ) -> io::Result<()> {
        if !self.lanes.contains_key(name) {
            let lane = self.start(name, begin())?;
            self.lanes.insert(name.to_owned(), lane);
        }
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.work.send(work).map_err(|_| io::Error::other("the thread is gone"))?;
            lane.busy = true;
        }
        Ok(())
    }

    /// Lets go of a lane, and of what its thread knew: the next work starts another. What it still does is told to nobody.
    pub fn forget(&mut self, name: &str) {
        self.lanes.remove(name);
    }

    /// What has come back since the last call, with the lane's name; `None` from work that ended in a panic, whose lane is let go
    /// of.
    pub fn reports(&mut self) -> Vec<(String, Option<Told>)> {
        // Before the reports are taken: one that comes meanwhile is news again.
        self.news.store(false, Ordering::Release);
        let mut bytes = [0; 256];
        while matches!((&self.wake).read(&mut bytes), Ok(n) if n > 0) {}
        let mut found = Vec::new();
        while let Ok(Report { lane: number, name, told }) = self.reports.try_recv() {
            let Some(lane) = self.lanes.get_mut(&name).filter(|lane| lane.number == number) else { continue };
            lane.busy = false;
            if told.is_none() {
                self.lanes.remove(&name);
            }
            found.push((name, told));
        }
        found
    }

    fn start(&self, name: &str, mut perform: Perform<Work, Told>) -> io::Result<Lane<Work>> {
        let (work, queue) = channel();
        let (report, news, waker) = (self.report.clone(), Arc::clone(&self.news), Arc::clone(&self.waker));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = name.to_owned();
        unsignalled(|| {
            thread::Builder::new().name("audit outside".into()).spawn(move || {
                for work in queue {
                    let told = catch_unwind(AssertUnwindSafe(|| perform(work))).ok();
                    let ended = told.is_none();
                    // The owner is gone when nobody listens: so is the need to tell.
                    let heard = report.send(Report { lane: number, name: name.clone(), told }).is_ok();
                    news.store(true, Ordering::Release);
                    let _ = (&*waker).write(&[1]);
                    if ended || !heard {
                        return;
                    }
                }
            })
        })?;
        Ok(Lane { number, work, busy: false })
    }
}

/// Runs `start` with every signal blocked; what it starts keeps them blocked.
fn unsignalled<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = start();
    before.thread_set_mask()?;
    started
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn wait<W: Send + 'static, T: Send + 'static>(lanes: &mut Lanes<W, T>) -> Vec<(String, Option<T>)> {
        let mut fds = [PollFd::new(lanes.wake_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000u16)).unwrap(), 1, "a report within five seconds");
        lanes.reports()
    }

    #[test]
    fn a_lane_keeps_its_state_and_does_one_thing_at_a_time() {
        let mut lanes: Lanes<u32, u32> = Lanes::new().unwrap();
        let summing = || -> Perform<u32, u32> {
            let mut sum = 0;
            Box::new(move |n| {
                sum += n;
                sum
            })
        };
        for (n, expected) in [(1, 1), (2, 3), (3, 6)] {
            lanes.give("a", n, summing).unwrap();
            assert!(lanes.is_busy("a"));
            assert_eq!(wait(&mut lanes), [("a".to_owned(), Some(expected))]);
            assert!(!lanes.is_busy("a"));
        }
        lanes.forget("a");
        lanes.give("a", 5, summing).unwrap();
        assert_eq!(wait(&mut lanes), [("a".to_owned(), Some(5))], "another thread, with a state of its own");
    }

    #[test]
    fn one_that_hangs_delays_no_other_and_what_it_says_after_it_was_let_go_of_is_told_to_nobody() {
        let mut lanes: Lanes<Option<Receiver<()>>, ()> = Lanes::new().unwrap();
        let hanging = || -> Perform<Option<Receiver<()>>, ()> {
            Box::new(|gate| {
                if let Some(gate) = gate {
                    let _ = gate.recv();
                }
            })
        };
        let (open, gate) = channel();
        lanes.give("hangs", Some(gate), hanging).unwrap();
        lanes.give("b", None, hanging).unwrap();
        assert_eq!(wait(&mut lanes), [("b".to_owned(), Some(()))]);
        assert!(lanes.is_busy("hangs"));
        lanes.forget("hangs");
        open.send(()).unwrap();
        lanes.give("hangs", None, hanging).unwrap();
        let since = Instant::now();
        let mut told = Vec::new();
        while told.is_empty() && since.elapsed() < Duration::from_secs(5) {
            told = wait(&mut lanes);
        }
        assert_eq!(told, [("hangs".to_owned(), Some(()))], "that of the second thread alone");
    }

    #[test]
    fn a_panic_ends_the_thread_and_not_the_lane() {
        let mut lanes: Lanes<bool, ()> = Lanes::new().unwrap();
        let failing = || -> Perform<bool, ()> { Box::new(|fail| assert!(!fail, "as asked")) };
        lanes.give("a", true, failing).unwrap();
        assert_eq!(wait(&mut lanes), [("a".to_owned(), None)]);
        assert!(!lanes.has("a"));
        lanes.give("a", false, failing).unwrap();
        assert_eq!(wait(&mut lanes), [("a".to_owned(), Some(()))]);
    }
}
