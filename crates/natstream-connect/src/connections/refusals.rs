//! When a set of connections is given up: its credentials are refused again and again.

use crate::end::EndReason;
use crate::error::ConnectError;

/// Counts refusals in a row, by whichever server.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// `None` goes on for ever.
    max: Option<usize>,
    in_a_row: usize,
}

impl Refusals {
    pub(crate) fn new(max: Option<usize>) -> Self {
        Self { max, in_a_row: 0 }
    }

    /// A server took the credentials.
    pub(crate) fn accepted(&mut self) {
        self.in_a_row = 0;
    }

    /// A server refused them; the reason to give up, once there is one.
    pub(crate) fn refused(&mut self, error: &ConnectError) -> Option<EndReason> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let is_enough = self.max.is_some_and(|max| self.in_a_row >= max);
        is_enough.then(|| EndReason::CredentialsRefused {
            attempts: self.in_a_row,
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_in_a_row_are_counted() {
        let error = ConnectError::config("credentials", "refused");
        let mut refusals = Refusals::new(Some(2));
        assert!(refusals.refused(&error).is_none());
        refusals.accepted();
        assert!(refusals.refused(&error).is_none());
        assert!(matches!(
            refusals.refused(&error),
            Some(EndReason::CredentialsRefused { attempts: 2, .. })
        ));
        let mut patient = Refusals::new(None);
        assert!((0..100).all(|_| patient.refused(&error).is_none()));
    }
}
