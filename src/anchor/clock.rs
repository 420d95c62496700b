//! The time by which anchors are planned, sent and missed.

use zeroauth_audit_anchor::Moment;

use crate::shared::databases;
use crate::trail::columns::unix_micros;

/// The database's clock, in whole seconds.
pub(super) fn moment() -> Moment {
    Moment(unix_micros(databases::now()).div_euclid(1_000_000))
}
