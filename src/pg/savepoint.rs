//! How deep the savepoint is that something belongs to: what a released one did is of the one around it, what was done in one that is rolled
//! back is undone.

// Never raises: called without pgrx's guard.
unsafe extern "C-unwind" {
    fn GetCurrentTransactionNestLevel() -> i32;
}

/// The nest level of a savepoint, 1 for the transaction itself. The smaller one lasts longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub i32);

impl Level {
    /// Of the savepoint that is running, or ending.
    #[inline]
    pub fn here() -> Self {
        // SAFETY: reads transaction state of this process.
        Self(unsafe { GetCurrentTransactionNestLevel() })
    }

    /// A savepoint is being released.
    pub fn release(&mut self) {
        if *self == Self::here() {
            self.0 -= 1;
        }
    }

    /// Whether the savepoint that is being rolled back takes it along.
    pub fn is_undone(self) -> bool {
        self >= Self::here()
    }
}
