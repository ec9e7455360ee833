//! What all users of one connection have in common.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::connection::Connection;
use crate::subject::subject_matches;

/// One value of each type, for as long as the connection lives.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// The subjects that are served.
    served: Mutex<Vec<String>>,
}

impl Connection {
    /// The value of type `T` that all users of this connection share; `make` makes it when there is none yet.
    ///
    /// For what belongs to a connection and to a crate that builds on this one: a budget of all its streams, for example. It
    /// lives as long as the connection. `make` must not ask for another one.
    pub fn shared<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.extras().values.lock();
        let value = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(make()));
        let Ok(value) = value.clone().downcast() else {
            unreachable!("a value is kept under its own type");
        };
        value
    }

    /// Notes that `subject`, which may have wildcards, is served on this connection, until the guard is dropped.
    #[must_use = "dropping it ends the service"]
    pub fn serve(&self, subject: impl Into<String>) -> ServedGuard {
        let subject = subject.into();
        self.extras().served.lock().push(subject.clone());
        ServedGuard {
            connection: self.clone(),
            subject,
        }
    }

    /// Is `subject` served on this connection? A peer that names such a subject for its answers would make this process
    /// talk to itself (rule 6 of the wire protocol).
    #[must_use]
    pub fn serves(&self, subject: &str) -> bool {
        let served = self.extras().served.lock();
        served.iter().any(|served| subject_matches(served, subject))
    }
}

/// A subject that is served. Dropping it ends that.
#[derive(Debug)]
pub struct ServedGuard {
    connection: Connection,
    subject: String,
}

impl Drop for ServedGuard {
    fn drop(&mut self) {
        let mut served = self.connection.extras().served.lock();
        if let Some(index) = served.iter().position(|served| *served == self.subject) {
            served.swap_remove(index);
        }
    }
}
