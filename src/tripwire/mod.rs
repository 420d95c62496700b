//! Tripwires: installed definitions, pinned files, clocks. Each is read here and judged in the crate `zeroauth-audit-tripwire`.
//!
//! The state of the pins lies in shared memory under the lightweight lock `zeroauth_audit_pins`, never held while a file is read. Imports
//! from trail/ and pg/.

pub(crate) mod clock;
pub(crate) mod definitions;
pub(crate) mod pins;
