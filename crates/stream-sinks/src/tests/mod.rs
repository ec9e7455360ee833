//! Tests of the parts together, without threads: each step happens when a test says so, and each run is the same.

mod care;
mod faults;
mod power;
mod random;
mod segments;
mod time;
mod world;
