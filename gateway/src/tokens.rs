//! Access tokens: JSON Web Tokens (RFC 7519) that somebody makes of his key, for programs that should not have the key itself.
//!
//! # Invariants
//! - A token that is not written as [`Tokens::issue`] writes one is refused, before any signature is computed: three parts, a header
//!   of `alg`, `typ` and `kid` and nothing else, the one algorithm, the one key, each claim once and of
//!   its type. Nothing in a token says where a key is to be found.
//! - A token says which key it was made of, and is good for no longer than that is, and for nothing that it may not.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use wasmhouse_storage::audit::Who;
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::{KeyId, ProjectId};
use wasmhouse_storage::people::Grant;

use crate::access::Caller;
use crate::billing::receipt::{Signer, unhex};
use crate::error::{Error, Result};

/// The longest token that is looked at.
const TOKEN_BYTES: usize = 8 << 10;

/// How long a token may be good.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// How long it is good if nothing is said.
pub(crate) const USUAL: Duration = Duration::from_secs(900);

/// By how much the clocks of two servers may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// Who makes tokens, and for whom.
const ISSUER: &str = "wasmhouse";

/// Makes and reads tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    signer: Signer,
    clock: Clock,
}

/// What a token's header says, and all that it may say. A field that is there twice is an error, as is any other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    alg: String,
    typ: String,
    kid: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    /// Who it is for.
    pub(crate) sub: Who,
    /// Which project it opens.
    pub(crate) project: ProjectId,
    /// The key that it was made of.
    pub(crate) key: KeyId,
    /// What it may be used for at most. Absent: whatever the key may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<Vec<Grant>>,
    /// When it was made, in seconds since 1970.
    iat: u64,
    /// When it is over.
    exp: u64,
    /// What tells it from all others.
    pub(crate) jti: String,
}

impl Claims {
    /// When it is over.
    pub(crate) fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(i64::try_from(self.exp).unwrap_or(i64::MAX).saturating_mul(1_000_000))
    }
}

impl Tokens {
    pub(crate) fn new(signer: Signer, clock: Clock) -> Self {
        Self { signer, clock }
    }

    /// A token of the key that `caller` shows, good for `time`.
    pub(crate) fn issue(
        &self,
        caller: &Caller,
        scope: Option<Vec<Grant>>,
        time: Duration,
    ) -> Result<(String, Timestamp)> {
        let key = match &caller.actor.key {
            Some(key) if !caller.is_by_token() => key.clone(),
            _ => return Err(Error::Denied("make a token of a token: that takes a key".to_owned())),
        };
        let now = seconds(self.clock.now());
        let end = now + time.min(LONGEST).as_secs();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: caller.actor.who.clone(),
            project: caller.project.clone(),
            key,
            scope,
            iat: now,
            exp: caller.expires_at.map_or(end, |of_key| end.min(seconds(of_key))),
            jti: format!("{:032x}", rand::random::<u128>()),
        };
        let header = Header {
            kid: Some(self.signer.public_key().id),
            ..Header::new(Algorithm::EdDSA)
        };
        let key: EncodingKey = self.signer.jwt_key()?;
        let text = jsonwebtoken::encode(&header, &claims, &key).map_err(|error| Error::Internal(error.into()))?;
        match text.len() <= TOKEN_BYTES {
            true => Ok((text, claims.expires_at())),
            false => Err(Error::InvalidRequest(format!(
                "the scope is too long: the token would have {} bytes, and has at most {TOKEN_BYTES}",
                text.len()
            ))),
        }
    }

    /// What a token says, if it is one of ours and not over.
    pub(crate) fn read(&self, text: &str) -> Result<Claims> {
        let head = head_of(text).ok_or(Error::Unauthenticated)?;
        // There is one key: a token names it, and cannot bring another. Whoever has got hold of an older one has nothing.
        let key = Some(self.signer.public_key()).filter(|key| key.id == head.kid);
        let key = key
            .and_then(|key| unhex(&key.public_key))
            .ok_or(Error::Unauthenticated)?;
        let claims = claims_of(text, &key).ok_or(Error::Unauthenticated)?;
        match self.is_good(&claims) {
            true => Ok(claims),
            false => Err(Error::Unauthenticated),
        }
    }

    fn is_good(&self, claims: &Claims) -> bool {
        let now = seconds(self.clock.now());
        let (leeway, longest) = (CLOCKS_DIFFER.as_secs(), LONGEST.as_secs());
        let is_ours = claims.iss == ISSUER && claims.aud == ISSUER;
        let was_made = claims.iat <= now + leeway && claims.iat < claims.exp;
        is_ours && was_made && claims.exp - claims.iat <= longest && claims.exp > now
    }
}

/// The header, if the text has the shape of a token and the header is one of ours.
fn head_of(text: &str) -> Option<Head> {
    if text.len() > TOKEN_BYTES {
        return None;
    }
    let mut parts = text.split('.');
    let [head, claims, signature] = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some() || claims.is_empty() || signature.is_empty() {
        return None;
    }
    let head: Head = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
    let is_ours = head.alg == "EdDSA" && head.typ == "JWT";
    let is_id = head.kid.len() == 16
        && head
            .kid
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_ours && is_id).then_some(head)
}

/// The claims, if this key has signed them.
fn claims_of(text: &str, public_key: &[u8]) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    // Time is looked at by the clock of the house, and all claims are compared by us.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_ed_der(public_key);
    let read = jsonwebtoken::decode::<Claims>(text, &key, &validation).ok()?;
    Some(read.claims)
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.micros() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests;
