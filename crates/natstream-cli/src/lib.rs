//! The `natstream` program: streaming calls over NATS from a terminal or a script.
//!
//! ```console
//! $ natstream serve logs.tail -- sh -c 'tail -n "$NATS_REQUEST_BODY" /var/log/syslog' &
//! serving logs.tail
//! $ natstream call logs.tail 3
//! ```
//!
//! Standard output carries data only; everything else goes to standard error. Commands, options, output and exit codes
//! are a stable interface.
//!
//! | code | |
//! |---|---|
//! | 0 | complete |
//! | 1 | the other side failed |
//! | 2 | the command line or the request is not valid |
//! | 3 | nobody answers the subject |
//! | 4 | a clock ran out |
//! | 5 | data lost or the answer cut short |
//! | 6 | no connection |
//! | 7 | not permitted |
//! | 8 | not everything was delivered |
//! | 130 | interrupted |

#![forbid(unsafe_code)]

mod bench;
mod bus;
mod call;
mod children;
mod cli;
mod clock;
mod completions;
mod config;
mod console;
mod content;
mod doctor;
mod duration;
mod exit;
mod exposition;
mod format;
mod interrupt;
mod kv;
mod logging;
mod ls;
mod man;
mod object;
mod options;
mod output;
mod program;
mod publish;
mod record;
mod replay;
mod request;
mod serve;
mod services;
mod session;
mod size;
mod subscribe;
mod top;

pub use program::main;
