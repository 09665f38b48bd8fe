//! Attacks on tokens. Each case is a good token with one thing changed, and signed again with the right key wherever an attacker
//! could have that done, so that nothing but the named thing can be what it is refused for.

use serde_json::{Value, json};
use tempfile::TempDir;
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::people::{NewKey, People};

use super::*;
use crate::callers::Callers;
use crate::projects::Projects;

/// A house with the project `acme`, one key of it, and what reads tokens.
struct World {
    _folder: TempDir,
    tokens: Tokens,
    clock: Clock,
    caller: Caller,
    signer: Signer,
    other: Signer,
}

impl World {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let clock = Clock::manual(Timestamp::from_micros(1_790_000_000_000_000));
        let url = format!("sqlite://{}/catalog.db", folder.path().display());
        let catalog = Catalog::open(&url, clock.clone()).await.expect("a catalog");
        let signer = Signer::open_or_make(&folder.path().join("a.key")).expect("a key");
        let other = Signer::open_or_make(&folder.path().join("b.key")).expect("a key");
        let tokens = Tokens::new(signer.clone(), clock.clone());
        let projects = Projects::new(catalog.clone(), clock.clone());
        let callers = Callers::new(People::new(&catalog), tokens.clone(), clock.clone());
        let by = wasmhouse_storage::audit::Actor::house();
        let key = projects
            .create(&"acme".parse().expect("a name"), &by)
            .await
            .expect("a project");
        let caller = callers.open(&key, None).await.expect("a good key");
        Self {
            _folder: folder,
            tokens,
            clock,
            caller,
            signer,
            other,
        }
    }

    fn good(&self) -> String {
        self.tokens.issue(&self.caller, None, USUAL).expect("a token").0
    }

    /// The header and the claims of a good token.
    fn parts(&self) -> (Value, Value) {
        let text = self.good();
        let mut parts = text.split('.').map(|part| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
            serde_json::from_slice(&bytes).unwrap_or_default()
        });
        (parts.next().expect("a header"), parts.next().expect("claims"))
    }

    /// A token of these texts, signed with the key of the house.
    fn signed(&self, head: &str, claims: &str) -> String {
        signed_by(&self.signer, head, claims)
    }
}

fn signed_by(signer: &Signer, head: &str, claims: &str) -> String {
    let message = format!("{}.{}", encoded(head), encoded(claims));
    let signature = unhex(&signer.sign(message.clone()).signature).expect("hexadecimal");
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

/// The same object with one field changed; `null` takes it away.
fn with(object: &Value, field: &str, value: Value) -> String {
    let mut object = object.clone();
    match value {
        Value::Null => object.as_object_mut().expect("an object").remove(field),
        value => object
            .as_object_mut()
            .expect("an object")
            .insert(field.to_owned(), value),
    };
    object.to_string()
}

/// The same text with more in front of the first field.
fn doubled(text: &str, field: &str) -> String {
    text.replacen('{', &format!("{{{field},"), 1)
}

#[tokio::test]
async fn a_token_that_was_made_of_a_key_is_read_as_it_was_written() {
    let world = World::new().await;
    let scope = vec![Grant::new("viewer".parse().expect("a role"), None).expect("a grant")];

    let (text, ends) = world
        .tokens
        .issue(&world.caller, Some(scope.clone()), Duration::from_secs(60))
        .expect("a token");
    let claims = world.tokens.read(&text).expect("a good token");

    assert_eq!(claims.project, world.caller.project);
    assert_eq!(Some(&claims.key), world.caller.actor.key.as_ref());
    assert_eq!((claims.scope.clone(), claims.expires_at()), (Some(scope), ends));
    // What the attacks below are made of is good as long as nothing is changed.
    let (head, claims) = world.parts();
    let again = world.signed(&head.to_string(), &claims.to_string());
    assert!(world.tokens.read(&again).is_ok(), "{again}");
}

#[tokio::test]
async fn every_attack_on_a_token_is_refused() {
    let world = World::new().await;
    let (head, claims) = world.parts();
    let (h, c) = (head.to_string(), claims.to_string());
    let now = seconds(world.clock.now());
    let good = world.signed(&h, &c);
    let parts: Vec<&str> = good.split('.').collect();
    let (message, signature) = (format!("{}.{}", parts[0], parts[1]), parts[2]);
    let mut flipped = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
    flipped[10] ^= 1;
    let public = unhex(&world.signer.public_key().public_key).expect("hexadecimal");
    let hmac = |algorithm, secret: &[u8]| {
        let header = Header {
            kid: head["kid"].as_str().map(str::to_owned),
            ..Header::new(algorithm)
        };
        let key = EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    };

    let mut cases: Vec<(String, String)> = Vec::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));
    // No signature, under every spelling.
    for alg in ["none", "None", "NONE", "nOnE", "", "null"] {
        case(
            &format!("alg {alg:?}"),
            world.signed(&with(&head, "alg", json!(alg)), &c),
        );
        let unsigned = format!("{}.{}.", encoded(with(&head, "alg", json!(alg))), encoded(&c));
        case(&format!("alg {alg:?}, unsigned"), unsigned);
    }
    case("alg is absent", world.signed(&with(&head, "alg", Value::Null), &c));
    case("alg is a list", world.signed(&with(&head, "alg", json!(["EdDSA"])), &c));
    // Another algorithm, with what an attacker knows as its secret.
    for (name, algorithm) in [("HS256", Algorithm::HS256), ("HS512", Algorithm::HS512)] {
        case(&format!("{name} with the public key"), hmac(algorithm, &public));
        let hex = world.signer.public_key().public_key;
        case(
            &format!("{name} with the public key in hexadecimal"),
            hmac(algorithm, hex.as_bytes()),
        );
        case(&format!("{name} with nothing"), hmac(algorithm, b""));
    }
    for alg in ["HS256", "RS256", "ES256", "PS256", "EdDSA ", "eddsa", "Ed25519"] {
        case(
            &format!("alg {alg:?}, signed with Ed25519"),
            world.signed(&with(&head, "alg", json!(alg)), &c),
        );
    }
    // Keys that a token brings, or says where to find.
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(&public) });
    for (field, value) in [
        ("jwk", jwk),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/cert")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        case(
            &format!("a header with {field}"),
            world.signed(&with(&head, field, value), &c),
        );
    }
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "' or '1'='1",
        "x' union select '00' --",
        "0000000000000000",
        "",
        &"a".repeat(10_000),
        &head["kid"].as_str().expect("an id")[1..],
        &format!("{}0", head["kid"].as_str().expect("an id")),
        &format!("A{}", &head["kid"].as_str().expect("an id")[1..]),
    ] {
        let name: String = kid.chars().take(30).collect();
        case(
            &format!("kid {name:?}"),
            world.signed(&with(&head, "kid", json!(kid)), &c),
        );
    }
    case("kid is absent", world.signed(&with(&head, "kid", Value::Null), &c));
    case("typ is another", world.signed(&with(&head, "typ", json!("at+jwt")), &c));
    case(
        "a key that was never published",
        signed_by(
            &world.other,
            &with(&head, "kid", json!(world.other.public_key().id)),
            &c,
        ),
    );
    case("another key under this name", signed_by(&world.other, &h, &c));
    // Claims that are not as they must be.
    for (field, values) in [
        (
            "exp",
            vec![
                Value::Null,
                json!((now + 60).to_string()),
                json!(now as f64 + 60.5),
                json!(-1),
                json!(now),
                json!(now - 1),
                json!(now + 7200),
                json!(u64::MAX),
                json!([now + 60]),
            ],
        ),
        ("iat", vec![Value::Null, json!(now + 60), json!((now).to_string())]),
        ("iss", vec![Value::Null, json!("attacker"), json!(["wasmhouse"])]),
        (
            "aud",
            vec![Value::Null, json!("another"), json!(["wasmhouse", "another"])],
        ),
        ("sub", vec![Value::Null, json!("Not A Name"), json!(7)]),
        ("project", vec![Value::Null, json!("../acme"), json!("")]),
        ("key", vec![Value::Null, json!("k_0"), json!("' or 1=1 --")]),
        (
            "scope",
            vec![
                json!("owner"),
                json!([{ "role": "king" }]),
                json!([{ "role": "viewer", "more": 1 }]),
            ],
        ),
        ("jti", vec![Value::Null, json!(1)]),
        ("admin", vec![json!(true)]),
        ("nbf", vec![json!(now + 3600)]),
    ] {
        for value in values {
            case(
                &format!("{field} is {value}"),
                world.signed(&h, &with(&claims, field, value)),
            );
        }
    }
    // What is there twice.
    case("alg twice", world.signed(&doubled(&h, "\"alg\":\"none\""), &c));
    case(
        "kid twice",
        world.signed(&doubled(&h, "\"kid\":\"0000000000000000\""), &c),
    );
    case(
        "exp twice",
        world.signed(&h, &doubled(&c, &format!("\"exp\":{}", now + 9))),
    );
    case("sub twice", world.signed(&h, &doubled(&c, "\"sub\":\"(project)\"")));
    // The text itself.
    case(
        "a changed claim",
        format!(
            "{}.{}.{signature}",
            parts[0],
            encoded(with(&claims, "project", json!("victim")))
        ),
    );
    case(
        "a changed signature",
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(flipped)),
    );
    case("half a signature", format!("{message}.{}", &signature[..40]));
    case("no signature", format!("{message}."));
    case("two parts", message.clone());
    case("four parts", format!("{good}.{signature}"));
    case("five parts, as an encrypted token has", format!("{good}.a.b"));
    case("padding", format!("{}=.{}.{signature}", parts[0], parts[1]));
    case("a space", format!(" {good}"));
    case("a line feed behind", format!("{good}\n"));
    case("a NUL", format!("{good}\0"));
    case("no JSON", world.signed("hello", &c));
    case("a list", world.signed("[]", &c));
    case("claims that are no object", world.signed(&h, "\"exp\""));
    case("an empty text", String::new());
    case("dots", "..".to_owned());
    case(
        "a megabyte",
        world.signed(&h, &with(&claims, "jti", json!("x".repeat(1 << 20)))),
    );
    case("a megabyte of dots", ".".repeat(1 << 20));
    case(
        "deep JSON",
        world.signed(&h, &format!("{}{}", "[".repeat(3_000), "]".repeat(3_000))),
    );

    assert!(cases.len() >= 30, "{}", cases.len());
    for (name, token) in cases {
        let refused = world.tokens.read(&token);
        assert!(matches!(refused, Err(Error::Unauthenticated)), "{name}: {refused:?}");
    }
    assert!(world.tokens.read(&good).is_ok(), "and the good one is still good");
}

#[tokio::test]
async fn a_token_is_over_when_it_says_and_with_its_signing_key() {
    let world = World::new().await;
    let good = world.good();
    let beside = Tokens::new(world.signer.clone(), world.clock.clone());
    assert!(beside.read(&good).is_ok(), "a server that has the same key");
    let after = Tokens::new(world.other.clone(), world.clock.clone());
    assert!(
        matches!(after.read(&good), Err(Error::Unauthenticated)),
        "and one that has another"
    );

    world.clock.advance(USUAL - Duration::from_secs(1));
    assert!(world.tokens.read(&good).is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert!(matches!(world.tokens.read(&good), Err(Error::Unauthenticated)));
}

#[tokio::test]
async fn a_token_opens_no_more_than_its_key_and_falls_with_it() {
    let folder = TempDir::new().expect("a folder");
    let clock = Clock::manual(Timestamp::from_micros(1_790_000_000_000_000));
    let url = format!("sqlite://{}/catalog.db", folder.path().display());
    let catalog = Catalog::open(&url, clock.clone()).await.expect("a catalog");
    let signer = Signer::open_or_make(&folder.path().join("a.key")).expect("a key");
    let tokens = Tokens::new(signer, clock.clone());
    let projects = Projects::new(catalog.clone(), clock.clone());
    let callers = Callers::new(People::new(&catalog), tokens.clone(), clock.clone());
    let by = wasmhouse_storage::audit::Actor::house();
    let acme: ProjectId = "acme".parse().expect("a name");
    projects.create(&acme, &by).await.expect("a project");
    let people = People::new(&catalog);
    let viewer = Grant::new("viewer".parse().expect("a role"), None).expect("a grant");
    let new = NewKey {
        name: "narrow".to_owned(),
        principal: None,
        scope: Some(vec![viewer]),
        expires_at: Some(clock.now().plus(Duration::from_secs(60))),
    };
    let key = projects.create_key(&acme, &new, &by).await.expect("a key");
    let caller = callers.open(&key, None).await.expect("a good key");
    let owner = Grant::new("owner".parse().expect("a role"), None).expect("a grant");
    let token = tokens.issue(&caller, Some(vec![owner]), LONGEST).expect("a token").0;

    let by_token = callers.open(&token, None).await.expect("a good token");

    assert!(
        by_token.sees_all() && !by_token.can(crate::access::Act::ManagePeople),
        "no more than its key"
    );
    assert!(
        matches!(tokens.issue(&by_token, None, USUAL), Err(Error::Denied(_))),
        "no token of a token"
    );
    clock.advance(Duration::from_secs(61));
    callers.forget();
    assert!(
        matches!(callers.open(&token, None).await, Err(Error::Unauthenticated)),
        "its key has ended"
    );

    let lasting = projects
        .create_key(
            &acme,
            &NewKey {
                name: "lasting".to_owned(),
                expires_at: None,
                ..new
            },
            &by,
        )
        .await
        .expect("a key");
    let caller = callers.open(&lasting, None).await.expect("a good key");
    let token = tokens.issue(&caller, None, LONGEST).expect("a token").0;
    assert!(callers.open(&token, None).await.is_ok());
    let id = caller.actor.key.clone().expect("it was a key");
    people.revoke_key(&acme, &id, &by).await.expect("it was good");
    callers.forget();
    assert!(
        matches!(callers.open(&token, None).await, Err(Error::Unauthenticated)),
        "its key is revoked"
    );
}
