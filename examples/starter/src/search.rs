//! What is served: the types, and the handler.

use std::sync::Arc;

use natstream::{HandlerError, ResponseSender};
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Search {
    pub customer: String,
    /// Smaller orders are left out.
    #[serde(default)]
    pub at_least: u64,
}

/// What is answered, any number of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: u64,
    pub customer: String,
    pub amount: u64,
}

/// A database.
pub struct Orders(Vec<Order>);

impl Orders {
    /// One with 1000 orders of three customers.
    pub fn samples() -> Self {
        let order = |id: u64| Order {
            id,
            customer: ["ada", "edsger", "grace"][id as usize % 3].to_owned(),
            amount: id * 10,
        };
        Self((1..=1000).map(order).collect())
    }

    fn find<'a>(&'a self, search: &'a Search) -> impl Iterator<Item = &'a Order> {
        let is_wanted =
            |order: &&Order| order.customer == search.customer && order.amount >= search.at_least;
        self.0.iter().filter(is_wanted)
    }
}

/// Sends the orders that are searched for. What it returns ends the answer; an error is the caller's, with its code.
pub(crate) async fn search(
    orders: Arc<Orders>,
    search: Search,
    mut out: ResponseSender,
) -> Result<(), HandlerError> {
    if search.customer.is_empty() {
        return Err(HandlerError::invalid("whose orders?"));
    }
    for order in orders.find(&search) {
        // Waits while the caller is busy, and fails when it has gone: that is all there is to it.
        out.send_as(order).await?;
    }
    tracing::debug!(customer = search.customer, sent = out.sent(), "searched");
    Ok(())
}
