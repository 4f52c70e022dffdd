//! What the cross-crate tests share: a [`World`] with a stream in it, and a [`History`] that
//! remembers what processors saw and checks the promises against it.
//!
//! Everything runs in one process through the real SDK clients, most of it under paused time. The
//! promises themselves are in `tests/`, one file each.

pub mod history;
pub mod maven;
pub mod simulation;
pub mod world;

pub use history::History;
pub use world::{Worker, World};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
