//! Serves metrics over plain HTTP, for Prometheus: one path, without authentication, by default on the
//! loopback address. Does not depend on the individual metrics.

use std::{convert::Infallible, future::Future, net::TcpListener, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::sys::descriptors;

/// The content type of the answer, with the version of the text format.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Maximum number of simultaneous connections; a scraper needs one.
const AT_ONCE: usize = 16;
/// The timeout of a connection.
const WITHIN: Duration = Duration::from_secs(10);

/// Answers `GET /metrics` with the text of `render`, until `stop` is cancelled.
pub(crate) async fn serve<F, T>(listener: TcpListener, render: F, stop: CancellationToken)
where
    F: Fn() -> T + Clone + Send + Sync + 'static,
    T: Future<Output = String> + Send + 'static,
{
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve metrics"),
    };
    let places = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Some((stream, _)) = descriptors::admit(accepted, true).await else { continue };
        let Ok(place) = std::sync::Arc::clone(&places).try_acquire_owned() else { continue };
        let render = render.clone();
        tokio::spawn(async move {
            let _place = place;
            let answer = service_fn(move |request| answer(request, render.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(WITHIN)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            // An error affects only this scraper.
            let _ = tokio::time::timeout(WITHIN, connection).await;
        });
    }
}

async fn answer<F, T>(request: Request<Incoming>, render: F) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn() -> T,
    T: Future<Output = String>,
{
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, FORMAT, render().await),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", "metrics are at /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}
