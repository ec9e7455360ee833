//! The program `natstream`, run as its users run it, against a real nats-server.

mod call;
mod command;
mod deaths;
mod doctor;
mod exit;
mod file;
mod ls;
mod serve;
mod support;
