//! One thread for each outside party, so that a party that hangs delays no other, and the owner waits for none.
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

/// What a thread does with its work. It keeps its state between two pieces of work.
pub type Perform<Work, Report> = Box<dyn FnMut(Work) -> Report + Send>;

struct PartyThread<Work> {
    /// Distinguishes a thread from a released one of the same name.
    number: u64,
    work: Sender<Work>,
    busy: bool,
}

/// What a thread sends back; `report` is `None` if the work ended in a panic.
struct Message<Report> {
    thread: u64,
    name: String,
    report: Option<Report>,
}

/// The threads, and the way back from them.
pub struct PartyThreads<Work, Report> {
    threads: BTreeMap<String, PartyThread<Work>>,
    next: AtomicU64,
    messages: Receiver<Message<Report>>,
    sender: Sender<Message<Report>>,
    /// Whether there is a report that was not taken.
    news: Arc<AtomicBool>,
    wake: PipeReader,
    waker: Arc<PipeWriter>,
}

impl<Work, Report> std::fmt::Debug for PartyThreads<Work, Report> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartyThreads").field("threads", &self.threads.keys()).finish_non_exhaustive()
    }
}

impl<Work: Send + 'static, Report: Send + 'static> PartyThreads<Work, Report> {
    /// Without any thread yet.
    pub fn new() -> io::Result<Self> {
        let (wake, waker) = io::pipe()?;
        // A full pipe wakes just as well; nobody may wait for room in it.
        for end in [wake.as_fd(), waker.as_fd()] {
            rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)?;
        }
        let (sender, messages) = channel();
        Ok(Self {
            threads: BTreeMap::new(),
            next: AtomicU64::new(0),
            messages,
            sender,
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

    /// Whether the thread still has work.
    #[must_use]
    pub fn is_busy(&self, name: &str) -> bool {
        self.threads.get(name).is_some_and(|thread| thread.busy)
    }

    /// Whether there is such a thread.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.threads.contains_key(name)
    }

    /// Hands `work` to the party's thread, which must not be busy. `begin` makes the body of a new thread.
    pub fn give(
        &mut self,
        name: &str,
        work: Work,
        begin: impl FnOnce() -> Perform<Work, Report>,
    ) -> io::Result<()> {
        if !self.threads.contains_key(name) {
            let thread = self.start(name, begin())?;
            self.threads.insert(name.to_owned(), thread);
        }
        if let Some(thread) = self.threads.get_mut(name) {
            thread.work.send(work).map_err(|_| io::Error::other("the thread is gone"))?;
            thread.busy = true;
        }
        Ok(())
    }

    /// Releases a thread and its state: the next work starts another. Drops the report of work that it still does.
    pub fn release(&mut self, name: &str) {
        self.threads.remove(name);
    }

    /// The reports since the last call, by name; `None` from work that ended in a panic, whose thread is released.
    pub fn reports(&mut self) -> Vec<(String, Option<Report>)> {
        // Cleared before the reports are taken: a report that comes meanwhile sets it again.
        self.news.store(false, Ordering::Release);
        let mut bytes = [0; 256];
        while matches!((&self.wake).read(&mut bytes), Ok(n) if n > 0) {}
        let mut found = Vec::new();
        while let Ok(Message { thread: number, name, report }) = self.messages.try_recv() {
            let Some(thread) = self.threads.get_mut(&name).filter(|thread| thread.number == number) else {
                continue;
            };
            thread.busy = false;
            if report.is_none() {
                self.threads.remove(&name);
            }
            found.push((name, report));
        }
        found
    }

    fn start(&self, name: &str, mut perform: Perform<Work, Report>) -> io::Result<PartyThread<Work>> {
        let (work, queue) = channel();
        let (sender, news, waker) = (self.sender.clone(), Arc::clone(&self.news), Arc::clone(&self.waker));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = name.to_owned();
        unsignalled(|| {
            thread::Builder::new().name("audit outside".into()).spawn(move || {
                for work in queue {
                    let report = catch_unwind(AssertUnwindSafe(|| perform(work))).ok();
                    let ended = report.is_none();
                    // If nobody receives, the owner is gone.
                    let delivered =
                        sender.send(Message { thread: number, name: name.clone(), report }).is_ok();
                    news.store(true, Ordering::Release);
                    let _ = (&*waker).write(&[1]);
                    if ended || !delivered {
                        return;
                    }
                }
            })
        })?;
        Ok(PartyThread { number, work, busy: false })
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

    fn wait<W: Send + 'static, T: Send + 'static>(
        threads: &mut PartyThreads<W, T>,
    ) -> Vec<(String, Option<T>)> {
        let mut fds = [PollFd::new(threads.wake_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000u16)).unwrap(), 1, "a report within five seconds");
        threads.reports()
    }

    #[test]
    fn a_thread_keeps_its_state_and_does_one_thing_at_a_time() {
        let mut threads: PartyThreads<u32, u32> = PartyThreads::new().unwrap();
        let summing = || -> Perform<u32, u32> {
            let mut sum = 0;
            Box::new(move |n| {
                sum += n;
                sum
            })
        };
        for (n, expected) in [(1, 1), (2, 3), (3, 6)] {
            threads.give("a", n, summing).unwrap();
            assert!(threads.is_busy("a"));
            assert_eq!(wait(&mut threads), [("a".to_owned(), Some(expected))]);
            assert!(!threads.is_busy("a"));
        }
        threads.release("a");
        threads.give("a", 5, summing).unwrap();
        assert_eq!(
            wait(&mut threads),
            [("a".to_owned(), Some(5))],
            "another thread, with a state of its own"
        );
    }

    #[test]
    fn one_that_hangs_delays_no_other_and_its_report_is_dropped_after_its_release() {
        let mut threads: PartyThreads<Option<Receiver<()>>, ()> = PartyThreads::new().unwrap();
        let hanging = || -> Perform<Option<Receiver<()>>, ()> {
            Box::new(|gate| {
                if let Some(gate) = gate {
                    let _ = gate.recv();
                }
            })
        };
        let (open, gate) = channel();
        threads.give("hangs", Some(gate), hanging).unwrap();
        threads.give("b", None, hanging).unwrap();
        assert_eq!(wait(&mut threads), [("b".to_owned(), Some(()))]);
        assert!(threads.is_busy("hangs"));
        threads.release("hangs");
        open.send(()).unwrap();
        threads.give("hangs", None, hanging).unwrap();
        let since = Instant::now();
        let mut report = Vec::new();
        while report.is_empty() && since.elapsed() < Duration::from_secs(5) {
            report = wait(&mut threads);
        }
        assert_eq!(report, [("hangs".to_owned(), Some(()))], "only the report of the second thread");
    }

    #[test]
    fn after_a_panic_the_next_work_starts_another_thread() {
        let mut threads: PartyThreads<bool, ()> = PartyThreads::new().unwrap();
        let failing = || -> Perform<bool, ()> { Box::new(|fail| assert!(!fail, "as the test wants")) };
        threads.give("a", true, failing).unwrap();
        assert_eq!(wait(&mut threads), [("a".to_owned(), None)]);
        assert!(!threads.has("a"));
        threads.give("a", false, failing).unwrap();
        assert_eq!(wait(&mut threads), [("a".to_owned(), Some(()))]);
    }
}
