//! Tripwires: installed definitions, pinned files, the clock.

pub(crate) mod clock;
pub(crate) mod definitions;
pub(crate) mod pins;
