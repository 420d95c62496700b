//! Places outside that a person names: their `config`, checked when it is given, by the same code that reads it later. The files
//! that it names are opened, and nobody is called.

pub(crate) mod config;
pub(crate) mod route;
pub(crate) mod sink;
pub(crate) mod target;
