//! What a check found wrong with a trail: made by replays and by the comparison with what was sealed.

/// One defect, as `audit_findings` returns it.
pub struct Finding {
    /// The class as users read it.
    pub class: &'static str,
    /// Where: NULLs where the row itself has NULLs.
    pub tenant: Option<String>,
    /// Where.
    pub chain: Option<i16>,
    /// Where.
    pub seq: Option<i64>,
    /// Which event, if one is there.
    pub event_id: Option<[u8; 16]>,
    /// The hash that should be there.
    pub expected: Option<[u8; 32]>,
    /// The hash that is there.
    pub actual: Option<[u8; 32]>,
    /// Of events that are not there, the last missing `seq`.
    pub missing_to: Option<i64>,
    /// In words.
    pub detail: String,
}
