//! One event as the hash sees it: its public and its private fields, borrowed from wherever they are stored.
//!
//! Text is bytes here: the stored bytes are hashed, never normalised, and the database has already checked
//! that it is UTF-8.

use crate::encode::{Sink, opt_bytes, opt_int, opt_uuid};

/// Stored text, or NULL.
pub type Text<'a> = Option<&'a [u8]>;

/// The fields every holder of the trail may see, in hash order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicFields<'a> {
    /// Whose trail it is.
    pub tenant_id: Text<'a>,
    /// The chain within the tenant, from 0.
    pub chain: i64,
    /// The position in the chain, from 1.
    pub seq: i64,
    /// The producer's idempotency key.
    pub event_id: [u8; 16],
    /// When it happened, in microseconds since 1970-01-01T00:00:00Z; the type's extremes are the infinities.
    pub occurred_at: i64,
    /// When the server stored it, in the same unit.
    pub recorded_at: i64,
    /// Kind of event.
    pub category: Text<'a>,
    /// What was done.
    pub action: Text<'a>,
    /// How it ended.
    pub outcome: Text<'a>,
    /// How grave it is.
    pub severity: Text<'a>,
    /// What it was done to.
    pub resource: Text<'a>,
    /// The service that reported it.
    pub service_name: Text<'a>,
    /// The environment of that service.
    pub env: Text<'a>,
    /// The provider behind the service.
    pub provider: Text<'a>,
    /// The request it belongs to.
    pub request_id: Text<'a>,
    /// The business operation it belongs to.
    pub correlation_id: Text<'a>,
    /// W3C trace id.
    pub trace_id: Text<'a>,
    /// W3C span id.
    pub span_id: Text<'a>,
    /// Protocol status.
    pub status_code: Option<i64>,
    /// Duration in milliseconds.
    pub latency_ms: Option<i64>,
    /// Size in bytes.
    pub payload_size: Option<i64>,
    /// The error's code.
    pub error_code: Text<'a>,
    /// The role that was logged in.
    pub db_role: Text<'a>,
}

impl PublicFields<'_> {
    /// Writes every field, in order, as `opt(..)` of the format.
    #[inline]
    pub fn encode(&self, sink: &mut impl Sink) {
        opt_bytes(sink, self.tenant_id);
        opt_int(sink, Some(self.chain));
        opt_int(sink, Some(self.seq));
        opt_uuid(sink, &self.event_id);
        opt_int(sink, Some(self.occurred_at));
        opt_int(sink, Some(self.recorded_at));
        for text in [
            self.category,
            self.action,
            self.outcome,
            self.severity,
            self.resource,
            self.service_name,
            self.env,
            self.provider,
            self.request_id,
            self.correlation_id,
            self.trace_id,
            self.span_id,
        ] {
            opt_bytes(sink, text);
        }
        opt_int(sink, self.status_code);
        opt_int(sink, self.latency_ms);
        opt_int(sink, self.payload_size);
        opt_bytes(sink, self.error_code);
        opt_bytes(sink, self.db_role);
    }
}

/// The fields that erasure destroys, in hash order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PrivateFields<'a> {
    /// Kind of actor.
    pub actor_type: Text<'a>,
    /// Who did it.
    pub actor_id: Text<'a>,
    /// From where, as `inet::text`.
    pub ip: Text<'a>,
    /// With what.
    pub user_agent: Text<'a>,
    /// The error in words.
    pub error_message: Text<'a>,
    /// Anything else, as `jsonb::text`.
    pub details: Text<'a>,
}

impl PrivateFields<'_> {
    /// Writes every field, in order, as `opt(..)` of the format.
    #[inline]
    pub fn encode(&self, sink: &mut impl Sink) {
        for text in
            [self.actor_type, self.actor_id, self.ip, self.user_agent, self.error_message, self.details]
        {
            opt_bytes(sink, text);
        }
    }

    /// Whether nothing is left: what an erased event must look like.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == PrivateFields::default()
    }
}
