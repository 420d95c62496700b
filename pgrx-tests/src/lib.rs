//! Private PostgreSQL clusters for tests, the demo and benchmarks.
