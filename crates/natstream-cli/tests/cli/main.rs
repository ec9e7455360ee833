//! The program `natstream`, run as its users run it, against a real nats-server.

mod bench;
mod bench_bus;
mod bench_sink;
mod buckets;
mod bus;
mod call;
mod command;
mod config;
mod consume;
mod deaths;
mod dlq;
mod doctor;
mod exit;
mod file;
mod ls;
mod messages;
mod record;
mod record_stream;
mod secrets;
mod serve;
mod support;
