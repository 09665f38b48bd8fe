//! Why there is no answer, and whether asking again may bring one.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

/// The longest pause between two sendings of a request, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why there is no answer, by what the person in front of the terminal can do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server has an opinion. Read it.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no conversation. Look at the address, the network, the server.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        url: String,
        reason: String,
        connected: bool,
    },
    /// The other side does not speak our API. Is it a Wasmhouse?
    #[error("{url} gave an answer that is not of this API: {reason}")]
    Unintelligible { url: String, reason: String },
    /// Flags, environment or client file do not say enough.
    #[error("{0}")]
    Settings(String),
}

/// An error as the server tells it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    /// Where in the SQL, both counted from 1.
    #[serde(default)]
    pub(crate) line: Option<usize>,
    #[serde(default)]
    pub(crate) column: Option<usize>,
    /// After which time asking again may help; from the headers of the answer.
    #[serde(skip)]
    pub(crate) retry_after: Option<Duration>,
}

impl Error {
    /// True when the thing asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        const ABSENT: [&str; 3] = ["not_found", "unknown_table", "unknown_dataset"];
        matches!(self, Self::Refused(refusal) if ABSENT.contains(&refusal.code.as_str()))
    }

    /// True when the thing to be made exists.
    pub(crate) fn already_exists(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == "already_exists")
    }

    /// True when nobody knows whether the server has heard the request.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The pause after which a request that was sent so many times may be answered, if it may. `met` says that the
    /// server has answered something before.
    pub(super) fn pause(&self, sent: u32, met: bool) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after.map(|pause| pause.min(LONGEST_PAUSE)),
            // A server that was there is being restarted; one that never was is more likely misspelt.
            Self::Unreachable { connected, .. } if *connected || met => {
                Some(Duration::from_millis(100) * 2_u32.pow(sent))
            }
            Self::Unreachable { .. } | Self::Unintelligible { .. } | Self::Settings(_) => None,
        }
    }
}

/// The pause a busy server asks for; half a second when it names none.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    let seconds = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Some(seconds.map_or(Duration::from_millis(500), Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(connected: bool) -> Error {
        Error::Unreachable {
            url: "http://127.0.0.1:8080/".to_owned(),
            reason: "connection refused".to_owned(),
            connected,
        }
    }

    #[test]
    fn a_server_that_was_there_is_asked_again_and_one_that_never_was_is_not() {
        assert_eq!(unreachable(false).pause(1, false), None);
        assert_eq!(unreachable(false).pause(1, true), Some(Duration::from_millis(200)));
        assert_eq!(unreachable(true).pause(2, false), Some(Duration::from_millis(400)));
    }

    #[test]
    fn an_opinion_is_asked_for_again_only_when_the_server_says_when() {
        let refused = |retry_after| {
            Error::Refused(Refusal {
                code: "busy".to_owned(),
                message: "no worker is free".to_owned(),
                line: None,
                column: None,
                retry_after,
            })
        };
        assert_eq!(refused(None).pause(1, true), None);
        assert_eq!(
            refused(Some(Duration::from_secs(5))).pause(1, true),
            Some(Duration::from_secs(5))
        );
        assert_eq!(
            refused(Some(Duration::from_secs(3600))).pause(1, true),
            Some(LONGEST_PAUSE)
        );
    }
}
