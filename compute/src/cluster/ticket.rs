//! The right to have parts of a query worked on: signed by the gateway for one attempt, shown to every worker, and over when
//! the query must be. It opens the workers of its project.
//!
//! A ticket is a JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037). Workers know only the public half of the key, so
//! none of them, whatever a tenant's statement has made of it, can write one.

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::{ProjectId, QueryId};

use crate::{Error, Result};

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose query it is.
    pub project: ProjectId,
    /// Which query.
    pub query: QueryId,
    /// Which attempt at it.
    pub attempt: u32,
    /// When it is over, in seconds since 1970.
    pub exp: u64,
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
    pub fn sign(&self, project: &ProjectId, query: &QueryId, attempt: u32, time: Duration) -> Result<String> {
        let ticket = Ticket {
            project: project.clone(),
            query: query.clone(),
            attempt,
            exp: seconds(self.clock.now().plus(time)),
        };
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
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Time is looked at below, by the clock of the house.
        validation.validate_exp = false;
        let public = self.public.read().unwrap_or_else(PoisonError::into_inner);
        let ticket = jsonwebtoken::decode::<Ticket>(text, public.as_ref()?, &validation).ok()?;
        (ticket.claims.exp > seconds(self.clock.now())).then_some(ticket.claims)
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
        let project = "acme".parse().expect("a name");
        let query = QueryId::new(clock.now());
        let ticket = signer
            .sign(&project, &query, 1, Duration::from_secs(60))
            .expect("a ticket");
        (signer, ticket)
    }

    #[test]
    fn a_ticket_is_good_until_it_is_over() {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let (signer, ticket) = signed(&clock);
        let inspector = Inspector::new(clock.clone());
        assert_eq!(inspector.inspect(&ticket), None, "nobody is trusted yet");
        inspector.trust(&signer.public_key());

        let read = inspector.inspect(&ticket).expect("a good ticket");
        assert_eq!((read.project.as_str(), read.attempt), ("acme", 1));
        clock.advance(Duration::from_secs(61));
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
