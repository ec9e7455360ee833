//! Traces go on in whoever handles a call, a message or an event.

use std::collections::HashMap;

use integration::consume::Desk;
use integration::{LIMIT, Peers, connection};
use natstream::connect::TraceContext;
use natstream::eventbus::topology::ConsumerSpec;
use natstream::eventbus::{Consumer, HandlerError as ConsumeFailure};
use natstream::{Bus, Event, Pool, Server};
use opentelemetry::trace::{FutureExt as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use testkit::{settles_where, shared_url, unique_subject, within};
use tracing::subscriber::DefaultGuard;
use tracing::{Instrument as _, info_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

/// The spans that are exported in this thread.
struct Exported {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _guard: DefaultGuard,
}

impl Exported {
    fn watch() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let wanted = Targets::new()
            .with_target("natstream::span", LevelFilter::DEBUG)
            .with_target("observe", LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("observe"));
        let subscriber = Registry::default().with(layer.with_filter(wanted));
        Self {
            exporter,
            _provider: provider,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// So many, when they have ended.
    async fn spans(&self, count: usize) -> Vec<SpanData> {
        let finished = || async { self.exporter.get_finished_spans().expect("spans") };
        settles_where(LIMIT, finished, |spans| spans.len() >= count).await
    }
}

/// What each span's parent is called, by the span's own name.
fn parents(spans: &[SpanData]) -> HashMap<String, String> {
    let names: HashMap<_, _> = spans
        .iter()
        .map(|span| (span.span_context.span_id(), &span.name))
        .collect();
    let parent = |span: &SpanData| {
        names
            .get(&span.parent_span_id)
            .map_or_else(String::new, ToString::to_string)
    };
    spans.iter().map(|span| (name(span), parent(span))).collect()
}

/// Those of callers have one name, and are told apart by what they call.
fn name(span: &SpanData) -> String {
    let method = span.attributes.iter().find(|pair| pair.key.as_str() == "rpc.method");
    match (&*span.name, method) {
        (name @ "stream.request", Some(method)) => format!("{name} {}", method.value),
        (name, _) => name.to_owned(),
    }
}

#[tokio::test]
async fn a_call_a_nested_call_and_an_event_are_one_trace() {
    let exported = Exported::watch();
    let desk = Desk::new(connection(shared_url()).await).await;
    let (server, bus) = (Server::new(connection(shared_url()).await), desk.bus.clone());
    let (outer, inner) = (unique_subject("observe.outer"), unique_subject("observe.inner"));
    let on_inner = server.on(&inner, |_, mut out| async move { Ok(out.send("inner").await?) });
    within(LIMIT, on_inner).await.expect("served");
    let (nested, event) = (Pool::new(connection(shared_url()).await), format!("{}.a", desk.subject));
    let on_outer = server.on(&outer, {
        let inner = inner.clone();
        move |_, mut out| {
            let (nested, inner, bus, event) = (nested.clone(), inner.clone(), bus.clone(), event.clone());
            async move {
                let items = nested
                    .request_stream(inner, "")
                    .await
                    .expect("sent")
                    .collect_all(100)
                    .await;
                bus.publish(Event::new(event, "x")).await.expect("acked");
                Ok(out.send(items.expect("items")[0].clone()).await?)
            }
        }
    });
    within(LIMIT, on_outer).await.expect("served");

    let pool = Pool::new(connection(shared_url()).await);
    let call = async {
        within(LIMIT, pool.request_stream(&outer, ""))
            .await
            .expect("sent")
            .collect_all(100)
            .await
    };
    within(LIMIT, call.instrument(info_span!(target: "observe", "caller")))
        .await
        .expect("complete");
    let spec = ConsumerSpec::new(&desk.stream, "reader");
    let consumer = within(LIMIT, Consumer::builder(desk.connection.clone(), spec).limit(1).open()).await;
    let consumer = consumer.expect("open");
    let handled = consumer.for_each(|_| async { Ok::<_, ConsumeFailure>(()) });
    within(LIMIT, handled).await.expect("handled");

    let spans = exported.spans(6).await;
    let trace = spans[0].span_context.trace_id();
    assert!(
        spans.iter().all(|span| span.span_context.trace_id() == trace),
        "{spans:#?}"
    );
    let (to_outer, to_inner) = (format!("stream.request {outer}"), format!("stream.request {inner}"));
    let expected = [
        ("caller", ""),
        (to_outer.as_str(), "caller"),
        (&outer, "stream.request"),
        (&to_inner, &outer),
        (&inner, "stream.request"),
        ("reader", &outer),
    ];
    let expected: HashMap<_, _> = expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    assert_eq!(parents(&spans), expected);
    let kinds = |kind: SpanKind| spans.iter().filter(|span| span.span_kind == kind).count();
    assert_eq!(
        (
            kinds(SpanKind::Client),
            kinds(SpanKind::Server),
            kinds(SpanKind::Consumer)
        ),
        (2, 2, 1)
    );
}

#[tokio::test]
async fn requests_and_messages_go_on_in_the_trace() {
    let exported = Exported::watch();
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    let handle = peers.server.on_message(&subject, |message| async move {
        if message.reply().is_some() {
            message.respond("x").await?;
        }
        Ok(())
    });
    within(LIMIT, handle).await.expect("served");
    let work = async {
        within(LIMIT, peers.pool.request(&subject, "")).await.expect("a reply");
        within(LIMIT, peers.pool.publish(&subject, "")).await.expect("sent");
    };
    work.instrument(info_span!(target: "observe", "caller")).await;
    let spans = exported.spans(4).await;
    let caller = spans.iter().find(|span| span.name == "caller").expect("the caller");
    let handled: Vec<_> = spans
        .iter()
        .filter(|span| span.span_kind == SpanKind::Consumer)
        .collect();
    assert_eq!(handled.len(), 2);
    let trace = caller.span_context.trace_id();
    assert!(
        handled
            .iter()
            .all(|span| span.span_context.trace_id() == trace && span.parent_span_is_remote)
    );
    let of_caller = |span: &&&SpanData| span.parent_span_id == caller.span_context.span_id();
    assert_eq!(
        handled.iter().filter(of_caller).count(),
        1,
        "that of the published message"
    );
}

/// Headers that a handler has seen.
async fn seen_headers(headers: &[(&str, &str)]) -> (Option<String>, Option<String>) {
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let tell = peers.server.on(&subject, move |request, _out| {
        let header = |name| request.header(name).map(str::to_owned);
        sender
            .send((header("traceparent"), header("tracestate")))
            .expect("somebody waits");
        async { Ok(()) }
    });
    within(LIMIT, tell).await.expect("served");
    let mut request = peers.pool.request_stream(&subject, "");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let responses = within(LIMIT, request).await.expect("sent");
    within(LIMIT, responses.collect_all(0)).await.expect("complete");
    within(LIMIT, seen.recv()).await.expect("seen")
}

#[tokio::test]
async fn outside_of_a_trace_headers_are_as_they_were() {
    assert_eq!(seen_headers(&[]).await, (None, None));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let own = seen_headers(&[("traceparent", parent), ("tracestate", "a=1")]).await;
    assert_eq!(own, (Some(parent.to_owned()), Some("a=1".to_owned())));
}

#[tokio::test]
async fn a_parent_that_the_user_has_set_stays() {
    let exported = Exported::watch();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let seen = seen_headers(&[("traceparent", parent)])
        .instrument(info_span!(target: "observe", "caller"))
        .await;
    assert_eq!(seen.0.as_deref(), Some(parent));
    let spans = exported.spans(3).await;
    let handler = spans
        .iter()
        .find(|span| span.span_kind == SpanKind::Server)
        .expect("the handler");
    assert_eq!(handler.span_context.trace_id().to_string(), parent[3..35]);
    assert_eq!(handler.parent_span_id.to_string(), parent[36..52]);
}

#[tokio::test]
async fn where_spans_of_calls_are_not_wanted_the_one_around_is_carried() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("observe"));
    let subscriber = Registry::default().with(layer.with_filter(LevelFilter::INFO));
    let _guard = tracing::subscriber::set_default(subscriber);
    let span = info_span!("caller");
    let (parent, _) = seen_headers(&[]).instrument(span.clone()).await;
    drop(span);
    let caller = &exporter.get_finished_spans().expect("spans")[0];
    let parent = parent.expect("it is carried");
    assert_eq!(parent[3..35], caller.span_context.trace_id().to_string());
    assert_eq!(parent[36..52], caller.span_context.span_id().to_string());
}

#[tokio::test]
async fn events_of_every_bus_carry_the_trace_through_files_too() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let exported = Exported::watch();
    let dir = tempfile::tempdir().expect("a directory");
    let outbox = natstream::Outbox::builder(dir.path()).open().await.expect("open");
    let publish = async {
        let context = TraceContext::current();
        assert!(context.is_some(), "there is a trace");
        let event = |number: u32| Event::new(format!("{}.a", desk.subject), number.to_string());
        let bus: &Bus = &desk.bus;
        within(LIMIT, bus.publish(event(0))).await.expect("acked");
        within(LIMIT, bus.enqueue(event(1))).await.expect("accepted");
        bus.try_enqueue(event(2)).expect("room");
        let report = within(LIMIT, bus.publish_batch([event(3)])).await;
        assert!(report.is_complete(), "{report:?}");
        within(LIMIT, outbox.enqueue(event(4))).await.expect("written");
    };
    publish.instrument(info_span!(target: "observe", "publisher")).await;
    outbox.deliver_by(desk.connection.clone());
    within(LIMIT, desk.bus.flush(LIMIT)).await.expect("acked");
    within(LIMIT, outbox.close(LIMIT)).await.expect("delivered");
    let publisher = &exported.spans(1).await[0];
    let trace = publisher.span_context.trace_id().to_string();
    let messages = integration::bus::messages(&desk.connection, &desk.stream).await;
    assert_eq!(messages.len(), 5);
    for message in messages {
        let parent = message.headers.get("traceparent").expect("a parent");
        assert_eq!(parent[3..35], trace, "{message:?}");
    }
}

#[tokio::test]
async fn a_context_of_opentelemetry_alone_is_carried() {
    let provider = SdkTracerProvider::builder().build();
    let span = provider.tracer("plain").start("caller");
    let context = opentelemetry::Context::current_with_span(span);
    let own = context.span().span_context().clone();
    let (parent, _) = seen_headers(&[]).with_context(context).await;
    let parent = parent.expect("it is carried");
    assert_eq!(parent[3..35], own.trace_id().to_string());
    assert_eq!(parent[36..52], own.span_id().to_string());
}
