//! Fast ingest.
mod answer;
mod engine;
mod place;
