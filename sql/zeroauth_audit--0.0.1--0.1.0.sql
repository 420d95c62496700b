\echo Use "ALTER EXTENSION zeroauth_audit UPDATE" to load this file. \quit
-- From the first frozen schema to 0.1.0: nothing has changed yet. Until 0.1.0 is declared released in CHANGELOG.md, every change
-- of sql/schema goes here too; afterwards this script never changes. pgrx-tests/tests/upgrade.rs compares the outcome.
