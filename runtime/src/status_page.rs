//! The page on :8080: what runs here, where, and how each connector fares. Plain HTML, made anew for each visit.

use std::fmt::Write;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

use crate::herder::Herder;

/// What the page shows.
#[derive(Debug, Clone)]
pub struct StatusPage {
    /// Names and addresses of the parts.
    pub parts: Vec<(&'static str, String)>,
    /// The worker.
    pub herder: Herder,
}

/// The page's server; `/healthz` answers `ok` while the process lives.
pub fn router(page: StatusPage) -> Router {
    Router::new().route("/", get(show)).route("/healthz", get(|| async { "ok\n" })).with_state(page)
}

async fn show(State(page): State<StatusPage>) -> Html<String> {
    let mut html = String::from(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>Towline</title>\
         <style>body{font:16px system-ui;margin:2rem;max-width:60rem}td,th{padding:.3rem 1rem .3rem 0;text-align:left;\
         vertical-align:top}.FAILED{color:#b00020;font-weight:bold}.RUNNING{color:#0a7a33}pre{white-space:pre-wrap}</style>\
         <h1>Towline</h1><table>",
    );
    for (name, address) in &page.parts {
        let _ = write!(html, "<tr><th>{name}<td><code>{}</code>", escape(address));
    }
    html.push_str("</table><h2>Connectors</h2><table><tr><th>Name<th>Type<th>State<th>Tasks");
    for name in page.herder.connectors() {
        let kind = page.herder.info(&name).map_or("unknown", |info| info.kind);
        let Ok(status) = page.herder.status(&name) else { continue };
        let state = status.connector.state.name();
        let _ = write!(html, "<tr><td>{}<td>{kind}<td class={state}>{state}<td>", escape(&name));
        let notes = page.herder.notes(&name);
        for (task, status) in &status.tasks {
            let state = status.state.name();
            let _ = write!(html, "<div><span class={state}>{task} {state}</span>");
            if let Some(text) = status.trace.as_ref().or(notes.get(task)) {
                let _ = write!(html, "<pre>{}</pre>", escape(text));
            }
            html.push_str("</div>");
        }
    }
    html.push_str("</table>");
    Html(html)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
