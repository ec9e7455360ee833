//! The program `natstream`, run as its users run it, against a real nats-server.

mod bench;
mod bench_bus;
mod bench_sink;
mod buckets;
mod bus;
mod call;
mod colours;
mod command;
mod config;
mod consume;
mod deaths;
mod dlq;
mod doctor;
mod exit;
mod file;
mod generated;
mod ls;
mod messages;
mod metrics;
mod record;
mod record_stream;
mod secrets;
mod serve;
mod support;
