//! What a request is answered with.

use std::time::Duration;

use super::{
    State,
    http::{Request, Response, decode},
};

/// Without `wait`.
const USUAL_WAIT: Duration = Duration::from_secs(300);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A query of the health endpoint.
#[derive(Debug)]
pub(super) struct Query {
    service: String,
    passing: bool,
    tags: Vec<String>,
    datacenter: Option<String>,
    token: Option<String>,
    /// To wait for something newer than this.
    pub(super) index: u64,
    pub(super) wait: Duration,
}

impl Query {
    /// Reads a request, or says what is wrong with it.
    pub(super) fn read(request: &Request) -> Result<Self, Response> {
        if request.method != "GET" {
            return Err(Response::text("405 Method Not Allowed", "method not allowed"));
        }
        let Some(service) = request.path().strip_prefix("/v1/health/service/") else {
            return Err(Response::text("404 Not Found", "404 page not found"));
        };
        let mut query = Self {
            service: decode(service),
            passing: false,
            tags: Vec::new(),
            datacenter: None,
            token: token(request),
            index: 0,
            wait: USUAL_WAIT,
        };
        for (key, value) in request.parameters() {
            match key.as_str() {
                "dc" => query.datacenter = Some(value),
                "index" => {
                    let index = value.parse();
                    query.index = index.map_err(|_| Response::text("400 Bad Request", "Invalid index"))?;
                }
                "passing" => query.passing = matches!(value.as_str(), "" | "1" | "t" | "true"),
                "tag" => query.tags.push(value),
                "wait" => {
                    let wait = parse_wait(&value);
                    query.wait = wait.ok_or_else(|| Response::text("400 Bad Request", "Invalid wait time"))?;
                }
                _ => {}
            }
        }
        Ok(query)
    }

    /// Whether it is answered now; if not, it waits for a change.
    pub(super) fn is_due(&self, state: &State) -> bool {
        self.index == 0 || self.index < state.catalog.index() || !self.may_read(state) || !self.is_here(state)
    }

    pub(super) fn answer(&self, state: &State) -> Response {
        if !self.is_here(state) {
            return Response::text("500 Internal Server Error", "No path to datacenter");
        }
        let anonymous = state.token.is_some() && self.token.is_none();
        if !anonymous && !self.may_read(state) {
            return Response::text("403 Forbidden", "ACL not found");
        }
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        // Nobody in particular may ask, and is told nothing.
        let service = if anonymous { "" } else { &self.service };
        let entries = state.catalog.entries(service, self.passing, &tags);
        let mut response = Response {
            status: "200 OK",
            content_type: "application/json",
            headers: vec![
                ("X-Consul-Effective-Consistency", "leader".to_owned()),
                ("X-Consul-Index", state.catalog.index().to_string()),
                ("X-Consul-Knownleader", "true".to_owned()),
                ("X-Consul-Lastcontact", "0".to_owned()),
            ],
            body: entries.to_string(),
        };
        let policy = if state.token.is_some() { "deny" } else { "allow" };
        response
            .headers
            .push(("X-Consul-Default-Acl-Policy", policy.to_owned()));
        if anonymous {
            response
                .headers
                .push(("X-Consul-Results-Filtered-By-Acls", "true".to_owned()));
        }
        response
    }

    fn may_read(&self, state: &State) -> bool {
        state.token.is_none() || self.token == state.token
    }

    fn is_here(&self, state: &State) -> bool {
        let here = |name: &String| *name == state.datacenter;
        self.datacenter.as_ref().is_none_or(here)
    }
}

fn token(request: &Request) -> Option<String> {
    let bearer = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    request.header("x-consul-token").or(bearer).map(str::to_owned)
}

/// Durations as Go writes them, as far as anybody uses them here.
fn parse_wait(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return None,
    };
    let wait = unit.checked_mul(number.parse().ok()?)?;
    Some(if wait.is_zero() {
        USUAL_WAIT
    } else {
        wait.min(LONGEST_WAIT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_by_go() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("30s", Some(Duration::from_secs(30))),
            ("2m", Some(Duration::from_secs(120))),
            ("0s", Some(USUAL_WAIT)),
            ("30m", Some(LONGEST_WAIT)),
            ("30", None),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(parse_wait(text), expected, "{text}");
        }
    }
}
