//! Spans of natstream as they are told: their fields, and what is logged in them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// A span that has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) fields: BTreeMap<&'static str, String>,
    /// Messages that were logged in it.
    pub(crate) said: Vec<String>,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// All spans that have ended in this thread, since it was made.
pub(crate) struct Spans {
    seen: Arc<Mutex<Vec<Seen>>>,
    _guard: DefaultGuard,
}

impl Spans {
    pub(crate) fn watch() -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let subscriber = Registry::default().with(Watch(seen.clone()));
        Self {
            seen,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Waits for the end of `count` spans of this name.
    pub(crate) async fn named(&self, name: &str, count: usize) -> Vec<Seen> {
        let named = || async {
            let all = self.all();
            all.into_iter().filter(|seen| seen.name == name).collect::<Vec<_>>()
        };
        testkit::settles_where(integration::LIMIT, named, |named| named.len() >= count).await
    }
}

struct Watch(Arc<Mutex<Vec<Seen>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Watch {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("it is new");
        let mut seen = Seen {
            name: span.name(),
            ..Seen::default()
        };
        attributes.record(&mut seen);
        span.extensions_mut().insert(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("it lives");
        if let Some(seen) = span.extensions_mut().get_mut::<Seen>() {
            values.record(seen);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut said = Seen::default();
        event.record(&mut said);
        if let Some(seen) = span.extensions_mut().get_mut::<Seen>() {
            seen.said.push(said.field("message").to_owned());
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("it ends now");
        let is_ours = span.metadata().target() == "natstream::span";
        if let Some(seen) = span.extensions_mut().remove::<Seen>().filter(|_| is_ours) {
            self.0.lock().push(seen);
        }
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}
