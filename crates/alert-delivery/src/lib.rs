//! Delivery of alerts over HTTP: to Alertmanager's v2 API, to webhooks with a signature, and to Slack, PagerDuty and Opsgenie.
//!
//! Knows nothing of Postgres. One attempt is [`Target::send`]: it ends within [`DEADLINE`], follows no redirect, asks no
//! proxy, reads no more of an answer than its head (of a refusal its first bytes, too), and returns an [`Outcome`], never a panic. [`Senders`] runs attempts in
//! threads of their own, one for each route at a time. [`backoff::pause`] says when to retry.
//!
//! URLs count as secrets: no error and no `Debug` of this crate contains a part of one.
#![forbid(unsafe_code)]

mod alertmanager;
pub mod backoff;
mod client;
mod notice;
mod opsgenie;
mod outcome;
mod pace;
mod pagerduty;
mod refusal;
mod senders;
mod severity;
pub mod signature;
mod slack;

pub use client::{DEADLINE, Target, check_url};
pub use notice::{Kind, Route, Shipment};
pub use outcome::Outcome;
pub use pace::{Pace, Settlement};
pub use senders::{Batch, Report, Senders};
