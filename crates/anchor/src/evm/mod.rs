//! Anchors in the `AuditAnchor` contract of an EVM chain.

pub mod contract;
