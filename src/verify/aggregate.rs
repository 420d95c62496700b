//! The scan: an aggregate that checks every event's content and sums up its links, in any order and in parallel.
//!
//! `chain_check(key, key, <columns>)`, grouped by tenant and chain, keeps one small state for each chain; what
//! the states say is decided by the core ([`zeroauth_audit_core::multiset`]). Parallel workers pass their states on as
//! bytes.

use pgrx::pg_sys;
use zeroauth_audit_core::multiset::{ChainState, Key, Scan};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::varlena;
use crate::trail::columns;
use crate::verify::progress;

/// Arguments before the columns: the state and the two halves of the key.
const COLUMNS_FROM: usize = 3;

struct State {
    chain: Scan,
    since_step: u32,
}

/// The memory context that lives as long as the aggregate.
fn aggregate_context(arguments: &Arguments) -> Result<pg_sys::MemoryContext, Failure> {
    let mut context = std::ptr::null_mut();
    // SAFETY: reads the call's context node.
    if unsafe { pg_sys::AggCheckCallContext(arguments.raw(), &mut context) } == 0 {
        return Err(Failure::new(Kind::InvalidArgument, "this function can only be called by an aggregate")
            .hint("Use audit_verify or audit_findings."));
    }
    Ok(context)
}

/// A new state, in memory of the aggregate.
fn allocate(arguments: &Arguments, chain: Scan) -> Result<*mut State, Failure> {
    let context = aggregate_context(arguments)?;
    // SAFETY: memory of that size, written at once. PostgreSQL aligns to 8, a u128 wants 16: hence the room to move.
    unsafe {
        let state = pg_sys::MemoryContextAlloc(context, size_of::<State>() + 16);
        let state = state.cast::<u8>();
        let state = state.add(state.align_offset(align_of::<State>())).cast::<State>();
        state.write(State { chain, since_step: 0 });
        Ok(state)
    }
}

fn state_of(datum: pg_sys::Datum) -> *mut State {
    datum.cast_mut_ptr::<State>()
}

fn key(arguments: &Arguments) -> Key {
    let half = |n| arguments.int8(n).unwrap_or_default() as u64;
    Key::new([half(1), half(2)])
}

/// Asks for the memory of the next event while this one is hashed. A scan in storage order goes through each page backwards, which the
/// processor does not foresee: the next event lies right before this one and is about as long.
#[inline]
fn prefetch_next(arguments: &Arguments) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        const MOST: usize = 16 * LINE;
        let column = |n: usize| arguments.datum(COLUMNS_FROM + n).map_or(0, |datum| datum.value());
        let (first, last) = (column(columns::at::TENANT_ID), column(columns::at::EVENT_HASH));
        let length = last.saturating_sub(first).min(MOST);
        for distance in (LINE..=length + 2 * LINE).step_by(LINE) {
            // SAFETY: a hint, which does nothing where there is no such memory.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(first.wrapping_sub(distance)))
            };
        }
    }
}

fn step(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let state = match arguments.datum(0) {
        Some(datum) => state_of(datum),
        None => allocate(arguments, Scan::new(key(arguments), ChainState::default()))?,
    };
    // SAFETY: allocated by `allocate`, owned by this aggregate's group, and nothing else looks at it meanwhile.
    let state_ref = unsafe { &mut *state };
    prefetch_next(arguments);
    // SAFETY: the arguments after the key are declared with the types of the columns.
    match unsafe { columns::check_event(|n| arguments.datum(COLUMNS_FROM + n)) } {
        Ok(event) => {
            let seq = arguments.int8(COLUMNS_FROM + columns::at::SEQ).unwrap_or_default();
            let content_ok = event.finding.is_none();
            state_ref.chain.add(seq, &event.prev_hash, &event.event_hash, content_ok);
        }
        Err(_) => state_ref.chain.add_unreadable(),
    }
    state_ref.since_step += 1;
    if state_ref.since_step == progress::STEP {
        state_ref.since_step = 0;
        progress::add_step_for_leader();
    }
    Ok(pg_sys::Datum::from(state))
}

fn combine(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let (into, from) = (arguments.datum(0).map(state_of), arguments.datum(1).map(state_of));
    let result = match (into, from) {
        (Some(into), Some(from)) => {
            // SAFETY: two different states of this aggregate.
            unsafe { (*into).chain.merge(&mut (*from).chain) };
            into
        }
        (Some(one), None) => one,
        // SAFETY: a state of this aggregate; copied, since its memory may be the other's.
        (None, Some(other)) => allocate(arguments, unsafe { (*other).chain })?,
        (None, None) => return Ok(arguments.return_null()),
    };
    Ok(pg_sys::Datum::from(result))
}

/// Both for parallel workers and as the aggregate's result.
fn to_bytes(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let Some(datum) = arguments.datum(0) else {
        return Ok(arguments.return_null());
    };
    aggregate_context(arguments)?;
    // SAFETY: a state of this aggregate.
    let state = unsafe { (*state_of(datum)).chain.state() };
    Ok(varlena::bytea(&state.to_bytes()))
}

fn from_bytes(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    // SAFETY: declared as bytea.
    let bytes = arguments.datum(0).map(|datum| unsafe { varlena::bytes(datum) });
    let chain = bytes.and_then(ChainState::from_bytes).ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "not the state of a chain")
            .hint("Use audit_verify or audit_findings.")
    })?;
    // Its links are added up already: no key is needed any more.
    Ok(pg_sys::Datum::from(allocate(arguments, Scan::new(Key::new([0; 2]), chain))?))
}

sql_function!(zeroauth_audit_check_step, pg_finfo_zeroauth_audit_check_step, step);
sql_function!(zeroauth_audit_check_combine, pg_finfo_zeroauth_audit_check_combine, combine);
sql_function!(zeroauth_audit_check_to_bytes, pg_finfo_zeroauth_audit_check_to_bytes, to_bytes);
sql_function!(zeroauth_audit_check_from_bytes, pg_finfo_zeroauth_audit_check_from_bytes, from_bytes);
