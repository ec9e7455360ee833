//! Who may connect, through the program `natstream` as its users have it: two processes, options, and the environment.

mod identity;
mod password;
mod signed;
mod tls;
