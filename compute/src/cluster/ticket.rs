//! The right to have a query worked on: for one attempt, and over when the query must be.
//!
//! What a gateway asks of a worker it signs, to the byte, with the token of that worker's process ([`seal`]), which it does not
//! send. What the workers of a query ask of each other they may ask because of a ticket that the gateway signed with Ed25519
//! ([`Signer`]): they know only the public half of the key, so none of them, whatever a tenant's statement has made of it, can
//! write one.
//!
//! Both are JSON Web Tokens (RFC 7519), of the algorithms HS256 (RFC 7518) and EdDSA (RFC 8037).

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::{ProjectId, QueryId};

use crate::task::Task;
use crate::{Error, Result};

/// By how much the clocks of two machines may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// How long what a gateway asks of a worker may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// Which attempt at which query, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Whose query it is.
    pub project: ProjectId,
    /// Which query.
    pub query: QueryId,
    /// Which attempt at it.
    pub attempt: u32,
}

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// What it is good for.
    #[serde(flatten)]
    pub errand: Errand,
    /// When it is over, in seconds since 1970.
    pub exp: u64,
}

impl From<&Task> for Errand {
    fn from(task: &Task) -> Self {
        Self {
            project: task.project.clone(),
            query: task.query.clone(),
            attempt: task.attempt,
        }
    }
}

impl Ticket {
    fn new(errand: &Errand, clock: &Clock, time: Duration) -> Self {
        Self {
            errand: errand.clone(),
            exp: seconds(clock.now().plus(time)),
        }
    }

    fn is_good(&self, clock: &Clock) -> bool {
        self.exp.saturating_add(CLOCKS_DIFFER.as_secs()) > seconds(clock.now())
    }
}

/// What a seal says: for which errand, and what is asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    #[serde(flatten)]
    ticket: Ticket,
    /// BLAKE3 of what is asked, in hexadecimal.
    asked: String,
}

/// Why a request is not what a gateway has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// It has no seal of this worker's gateways.
    Forged,
    /// It had one that is over.
    Late,
}

impl Sealed {
    /// What it is good for.
    pub(crate) fn errand(&self) -> &Errand {
        &self.ticket.errand
    }

    /// Whether this is what was asked.
    pub(crate) fn is_for(&self, asked: &[u8]) -> bool {
        self.asked == digest(asked)
    }
}

/// What a gateway shows to a worker whose process has this token, with what it asks of it.
pub(crate) fn seal(token: &str, errand: &Errand, asked: &[u8], clock: &Clock) -> Result<String> {
    let sealed = Sealed {
        ticket: Ticket::new(errand, clock, ON_ITS_WAY),
        asked: digest(asked),
    };
    let key = EncodingKey::from_secret(token.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &sealed, &key).map_err(|error| Error::Internal(error.into()))
}

/// What a gateway has sealed with this token, not long ago.
pub(crate) fn unseal(token: &str, text: &str, clock: &Clock) -> Result<Sealed, Unsealed> {
    let key = DecodingKey::from_secret(token.as_bytes());
    let sealed: Sealed = read(text, &key, Algorithm::HS256).ok_or(Unsealed::Forged)?;
    match sealed.ticket.is_good(clock) {
        true => Ok(sealed),
        false => Err(Unsealed::Late),
    }
}

fn digest(asked: &[u8]) -> String {
    blake3::hash(asked).to_hex().to_string()
}

fn read<T: DeserializeOwned>(text: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<T> {
    let mut validation = Validation::new(algorithm);
    // Time is looked at by the clock of the house.
    validation.validate_exp = false;
    Some(jsonwebtoken::decode::<T>(text, key, &validation).ok()?.claims)
}

/// Signs tickets. Each gateway makes a key of its own when it starts.
pub struct Signer {
    private: EncodingKey,
    public: PublicKey,
    clock: Clock,
}

/// What tickets are checked with. The default checks none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PublicKey(Vec<u8>);

/// Checks tickets of the gateway that has the worker.
pub struct Inspector {
    /// None until a gateway has said which are its own.
    public: RwLock<Option<DecodingKey>>,
    clock: Clock,
}

impl Signer {
    /// A signer with a new key.
    pub fn new(clock: Clock) -> Result<Self> {
        let unusable = |_| Error::Internal("no key could be made".into());
        let pair = Ed25519KeyPair::generate().map_err(unusable)?;
        let private = pair.to_pkcs8v1().map_err(unusable)?;
        Ok(Self {
            private: EncodingKey::from_ed_der(private.as_ref()),
            public: PublicKey(pair.public_key().as_ref().to_vec()),
            clock,
        })
    }

    /// What workers check this signer's tickets with.
    pub fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// A ticket that is good for `time` from now on.
    pub fn sign(&self, errand: &Errand, time: Duration) -> Result<String> {
        let ticket = Ticket::new(errand, &self.clock, time);
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &ticket, &self.private)
            .map_err(|error| Error::Internal(error.into()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Inspector {
    /// Lets nobody in yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            public: RwLock::default(),
            clock,
        }
    }

    /// From now on tickets that were signed with this key's other half are good, and no others.
    pub fn trust(&self, key: &PublicKey) {
        let key = DecodingKey::from_ed_der(&key.0);
        *self.public.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// What the ticket says, if it was signed by the gateway and is not over.
    pub fn inspect(&self, text: &str) -> Option<Ticket> {
        let public = self.public.read().unwrap_or_else(PoisonError::into_inner);
        let ticket: Ticket = read(text, public.as_ref()?, Algorithm::EdDSA)?;
        ticket.is_good(&self.clock).then_some(ticket)
    }
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.micros() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(clock: &Clock) -> (Signer, String) {
        let signer = Signer::new(clock.clone()).expect("a key");
        let ticket = signer.sign(&errand(clock), Duration::from_secs(60));
        (signer, ticket.expect("a ticket"))
    }

    fn errand(clock: &Clock) -> Errand {
        Errand {
            project: "acme".parse().expect("a name"),
            query: QueryId::new(clock.now()),
            attempt: 1,
        }
    }

    #[test]
    fn what_a_gateway_asks_is_sealed_for_one_worker_and_for_a_minute() {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let errand = errand(&clock);
        let sealed = seal("the token", &errand, b"look", &clock).expect("a seal");
        assert!(!sealed.contains("the token"));

        let asked = unseal("the token", &sealed, &clock).expect("a good seal");
        assert_eq!(asked.errand(), &errand);
        assert!(
            asked.is_for(b"look") && !asked.is_for(b"end"),
            "it is for what was asked"
        );
        assert_eq!(unseal("another", &sealed, &clock), Err(Unsealed::Forged));
        for text in ["", "the token", "x.y.z", &sealed[..sealed.len() - 4]] {
            assert_eq!(unseal("the token", text, &clock), Err(Unsealed::Forged), "{text}");
        }
        // Nobody chooses how a seal is checked: a ticket of another algorithm is none, and one that is not signed neither.
        let (signer, ticket) = signed(&clock);
        assert_eq!(unseal("the token", &ticket, &clock), Err(Unsealed::Forged));
        let inspector = Inspector::new(clock.clone());
        inspector.trust(&signer.public_key());
        assert_eq!(inspector.inspect(&sealed), None);

        clock.advance(ON_ITS_WAY + CLOCKS_DIFFER);
        assert_eq!(unseal("the token", &sealed, &clock), Err(Unsealed::Late));
    }

    #[test]
    fn a_ticket_is_good_until_it_is_over() {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let (signer, ticket) = signed(&clock);
        let inspector = Inspector::new(clock.clone());
        assert_eq!(inspector.inspect(&ticket), None, "nobody is trusted yet");
        inspector.trust(&signer.public_key());

        let read = inspector.inspect(&ticket).expect("a good ticket");
        assert_eq!((read.errand.project.as_str(), read.errand.attempt), ("acme", 1));
        clock.advance(Duration::from_secs(61));
        assert!(
            inspector.inspect(&ticket).is_some(),
            "the gateway's clock may be behind"
        );
        clock.advance(CLOCKS_DIFFER);
        assert_eq!(inspector.inspect(&ticket), None);
    }

    #[test]
    fn a_ticket_of_another_gateway_or_a_changed_one_opens_nothing() {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let (signer, ticket) = signed(&clock);
        let (other, foreign) = signed(&clock);
        let inspector = Inspector::new(clock);

        inspector.trust(&other.public_key());
        assert_eq!(inspector.inspect(&ticket), None);
        inspector.trust(&signer.public_key());
        assert_eq!(inspector.inspect(&foreign), None);
        for text in ["", "x.y.z", &ticket[..ticket.len() - 4], &format!("{ticket}A")] {
            assert_eq!(inspector.inspect(text), None, "{text}");
        }
    }
}
