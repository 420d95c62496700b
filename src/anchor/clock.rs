//! The time by which anchors are planned, sent and missed.

use zeroauth_audit_anchor::Moment;

use crate::pg::time;

/// The database's clock, in whole seconds.
pub(super) fn moment() -> Moment {
    Moment(time::unix_micros(time::now()).div_euclid(1_000_000))
}
