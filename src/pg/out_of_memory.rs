//! What happens when this process gets no more memory: an ERROR (53200), never the end of the process.
//!
//! PostgreSQL raises an error when its own allocator gets nothing. Rust's ends the process, and with it every session of the
//! server; and so does an error that is raised while pgrx copies the first one. So each backend that runs a function of this
//! library keeps an emergency [`RESERVE`] of memory. The reserve goes back to the system when memory runs out: one piece in the middle of
//! Rust's allocation, so that a row can be finished, the other in the middle of PostgreSQL's error, so that it can be handled.
//!
//! The reserve is enough for small allocations. A buffer as large as its input is palloc'ed or requested first ([`room`], [`grow`]),
//! and a loop over rows calls [`check`] after each of them.
//!
//! The reserve belongs to the one thread of a backend; the atomics only make that expressible in safe Rust.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::pg::error::{Failure, Kind};

/// The pieces: for Rust's allocations, many times what one row takes; and for errors, where copying one may need a block of
/// a memory context that has grown large, which PostgreSQL makes smaller when it must, but not below 1 MiB. Untouched, they
/// are address space and no memory.
const RESERVE: [Layout; 2] = [layout(256 << 10), layout(2 << 20)];

const fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, 16) {
        Ok(layout) => layout,
        Err(_) => panic!("16 is a power of two"),
    }
}

/// The pieces, NULL when given back.
static PIECES: [AtomicPtr<u8>; 2] =
    [AtomicPtr::new(std::ptr::null_mut()), AtomicPtr::new(std::ptr::null_mut())];

/// Allocates the pieces of the reserve that are missing. Whether the reserve is whole now.
#[inline]
pub fn take_reserve() -> bool {
    for (piece, layout) in PIECES.iter().zip(RESERVE) {
        if piece.load(Relaxed).is_null() {
            // SAFETY: a layout of some size.
            piece.store(unsafe { System.alloc(layout) }, Relaxed);
        }
    }
    !is_short()
}

/// Gives one piece of the reserve back to the system. Whether there was one.
#[cold]
fn release_reserve() -> bool {
    PIECES.iter().zip(RESERVE).any(|(piece, layout)| {
        let held = piece.swap(std::ptr::null_mut(), Relaxed);
        if !held.is_null() {
            // SAFETY: allocated with this layout, and nobody else's.
            unsafe { System.dealloc(held, layout) };
        }
        !held.is_null()
    })
}

/// Rust's allocator: the system's, with the emergency reserve behind it.
struct WithReserve;

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve;

// SAFETY: every block is the system's.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            // SAFETY: by contract.
            let block = unsafe { System.alloc(layout) };
            if !block.is_null() || !release_reserve() {
                return block;
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        loop {
            // SAFETY: by contract.
            let block = unsafe { System.alloc_zeroed(layout) };
            if !block.is_null() || !release_reserve() {
                return block;
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by contract.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        loop {
            // SAFETY: by contract; an attempt that failed left the block as it was.
            let moved = unsafe { System.realloc(block, layout, size) };
            if !moved.is_null() || !release_reserve() {
                return moved;
            }
        }
    }
}

/// For the error context of a call: PostgreSQL calls it while it raises an error, before pgrx copies that.
pub unsafe extern "C-unwind" fn on_error(_: *mut c_void) {
    unsafe extern "C-unwind" {
        fn geterrcode() -> c_int;
    }
    // SAFETY: an error is being raised; reads its code.
    if unsafe { geterrcode() } == pg_sys::errcodes::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int {
        while release_reserve() {}
    }
}

/// Whether memory ran out since the call began.
#[inline]
pub fn is_short() -> bool {
    PIECES.iter().any(|piece| piece.load(Relaxed).is_null())
}

/// The error, once memory has run out.
pub fn check() -> Result<(), Failure> {
    if is_short() { Err(failure()) } else { Ok(()) }
}

/// The error that PostgreSQL's own allocator raises.
pub fn failure() -> Failure {
    Failure::new(Kind::OutOfMemory, "out of memory")
        .detail("The system has no more memory for this process.")
        .hint("Give the server more memory, or run fewer sessions at once.")
}

/// Makes sure that `bytes` can be allocated, for the lines below that do so.
pub fn room(bytes: usize) -> Result<(), Failure> {
    let mut room: Vec<u8> = Vec::new();
    room.try_reserve_exact(bytes).map_err(|_| failure())
}

/// Makes room for one more element.
pub fn grow<T>(vec: &mut Vec<T>) -> Result<(), Failure> {
    vec.try_reserve(1).map_err(|_| failure())
}

/// An owned copy of a stored text: of any length, so room for it, and for the few copies made of it later, is checked first.
pub fn text(bytes: &[u8]) -> Result<String, Failure> {
    const SHORT: usize = 1024;
    const COPIES: usize = 4;
    if bytes.len() > SHORT {
        room(bytes.len().saturating_mul(COPIES))?;
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
