//! Metrics as data.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// The metrics of figures of one type.
pub(super) struct Table<S: 'static> {
    pub(super) labels: &'static [&'static str],
    pub(super) metrics: &'static [Metric<S>],
}

/// One metric, and where its value stands.
pub(super) struct Metric<S> {
    name: &'static str,
    unit: Unit,
    help: &'static str,
    value: Value<S>,
}

enum Value<S> {
    Counter(fn(&S) -> u64),
    Gauge(fn(&S) -> f64),
}

/// What is known of a metric beside its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that lists them"))]
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    /// Recorded where a call ends.
    #[cfg_attr(
        not(any(feature = "client", feature = "server")),
        expect(dead_code, reason = "none is left")
    )]
    Histogram,
}

/// Something that only grows.
pub(super) const fn total<S>(name: &'static str, unit: Unit, help: &'static str, get: fn(&S) -> u64) -> Metric<S> {
    Metric {
        name,
        unit,
        help,
        value: Value::Counter(get),
    }
}

/// Something as it is now.
pub(super) const fn level<S>(name: &'static str, unit: Unit, help: &'static str, get: fn(&S) -> f64) -> Metric<S> {
    Metric {
        name,
        unit,
        help,
        value: Value::Gauge(get),
    }
}

impl<S> Table<S> {
    /// Hands the figures to the recorder, with these values of the labels.
    pub(super) fn tell(&self, values: &[&str], figures: &S) {
        debug_assert_eq!(self.labels.len(), values.len(), "a value for each label");
        let labels: Vec<Label> = self
            .labels
            .iter()
            .zip(values)
            .map(|(label, value)| Label::new(*label, (*value).to_owned()))
            .collect();
        for metric in self.metrics {
            match metric.value {
                Value::Counter(get) => counter!(metric.name, labels.clone()).absolute(get(figures)),
                Value::Gauge(get) => gauge!(metric.name, labels.clone()).set(get(figures)),
            }
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.metrics.iter().map(|metric| Row {
            name: metric.name,
            kind: match metric.value {
                Value::Counter(_) => Kind::Counter,
                Value::Gauge(_) => Kind::Gauge,
            },
            unit: metric.unit,
            labels: self.labels,
            help: metric.help,
        })
    }
}

impl Row {
    pub(super) fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.unit, self.help),
            Kind::Histogram => describe_histogram!(self.name, self.unit, self.help),
        }
    }
}
