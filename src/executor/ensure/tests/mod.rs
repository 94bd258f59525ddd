//! `EnsureGroup`: the steps alone over many groups and wishes, and the whole over the sandbox.

mod place;
mod steps;
mod whole;
