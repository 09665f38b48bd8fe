use std::time::Duration;

use super::*;
use crate::audit::Audit;
use crate::catalog::Effect;
use crate::catalog::db::tests::{World, asker, worlds};
use crate::queries::Settled;

const HASH: [u8; 32] = [7; 32];

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

fn grant(role: Role, dataset: Option<&str>) -> Grant {
    let dataset = dataset.map(|name| name.parse().expect("a name"));
    Grant::new(role, dataset).expect("a role that can be had there")
}

fn key_of(principal: Option<&str>) -> NewKey {
    NewKey {
        name: "laptop".to_owned(),
        principal: principal.map(name),
        scope: None,
        expires_at: None,
    }
}

async fn ada(world: &World) -> PrincipalName {
    // Lines of one moment are in no particular order.
    world.clock.advance(Duration::from_millis(1));
    let ada = name("ada@example.com");
    let by = Actor::house();
    let created = world.people.create(&world.acme, &ada, PrincipalKind::User, &by).await;
    created.expect("she is new");
    ada
}

/// What was written down, the oldest first.
async fn deeds(world: &World) -> Vec<String> {
    let audit = Audit::new(&world.catalog);
    let lines = audit.lines(&world.acme, None, 100).await.expect("lines");
    let deed = |line: &crate::audit::AuditLine| format!("{} {} {}", line.deed.by.who, line.deed.act, line.deed.object);
    lines.iter().rev().map(deed).collect()
}

#[tokio::test]
async fn a_key_opens_its_project_for_its_holder_until_it_is_revoked() {
    for world in worlds().await {
        let ada = ada(&world).await;
        let by = Actor::house();
        let project = &world.acme;
        let viewer = grant(Role::Viewer, Some("shop"));
        world.people.grant(project, &ada, &viewer, &by).await.expect("granted");
        let new = NewKey {
            scope: Some(vec![viewer.clone()]),
            expires_at: Some(world.clock.now()),
            ..key_of(Some("ada@example.com"))
        };

        let id = world.people.create_key(project, &new, &HASH, &by).await.expect("new");

        let opened = world.people.open(&HASH).await.expect("an answer").expect("it is good");
        assert_eq!(opened.project, *project);
        assert_eq!(opened.key, id);
        assert_eq!(opened.principal, Some(ada.clone()));
        assert_eq!(opened.grants, std::slice::from_ref(&viewer));
        assert_eq!((opened.scope, opened.expires_at), (new.scope, new.expires_at));
        assert_eq!(world.people.open(&[8; 32]).await.expect("an answer"), None);
        for (name, hash) in [("laptop", [8; 32]), ("other", HASH)] {
            let again = NewKey {
                name: name.to_owned(),
                ..key_of(None)
            };
            let taken = world.people.create_key(project, &again, &hash, &by).await;
            assert!(matches!(taken, Err(Error::AlreadyExists(_))), "{taken:?}");
        }

        world.people.revoke_key(project, &id, &by).await.expect("it was good");

        assert_eq!(world.people.open(&HASH).await.expect("an answer"), None);
        let twice = world
            .people
            .revoke_key(project, &id, &by)
            .await
            .expect_err("it is gone");
        assert!(matches!(twice, Error::NotFound(_)), "{twice}");
        let key = world.people.key(project, &id).await.expect("it is still listed");
        assert_eq!((key.name.as_str(), key.revoked_at), ("laptop", Some(world.clock.now())));
        world.close().await;
    }
}

#[tokio::test]
async fn who_is_disabled_has_no_good_key_until_he_is_let_in_again() {
    for world in worlds().await {
        let ada = ada(&world).await;
        let by = Actor::house();
        let key = key_of(Some("ada@example.com"));
        world
            .people
            .create_key(&world.acme, &key, &HASH, &by)
            .await
            .expect("new");

        for (is_disabled, opens) in [(true, false), (false, true)] {
            let changed = world.people.set_disabled(&world.acme, &ada, is_disabled, &by).await;
            changed.expect("she is there");
            let opened = world.people.open(&HASH).await.expect("an answer");
            assert_eq!(opened.is_some(), opens);
        }

        let nobody = world.people.set_disabled(&world.acme, &name("bob"), true, &by).await;
        assert_eq!(
            nobody.expect_err("he was never let in").to_string(),
            "nobody named bob is in the project"
        );
        world.close().await;
    }
}

#[tokio::test]
async fn names_and_keys_mean_nothing_in_another_project() {
    for world in worlds().await {
        let ada = ada(&world).await;
        let by = Actor::house();
        let other: ProjectId = "other".parse().expect("a name");
        world.project(&other).await;
        let key = key_of(Some("ada@example.com"));
        let id = world
            .people
            .create_key(&world.acme, &key, &HASH, &by)
            .await
            .expect("new");

        let of_other = [
            world.people.grant(&other, &ada, &grant(Role::Owner, None), &by).await,
            world.people.create_key(&other, &key, &[9; 32], &by).await.map(drop),
            world.people.revoke_key(&other, &id, &by).await,
            world.people.key(&other, &id).await.map(drop),
            world.people.get(&other, &ada).await.map(drop),
        ];

        for refused in of_other {
            assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
        }
        assert_eq!(world.people.list(&other).await.expect("a list"), []);
        assert!(world.people.open(&HASH).await.expect("an answer").is_some());
        world.close().await;
    }
}

#[tokio::test]
async fn a_role_is_had_once_lost_once_and_goes_with_its_dataset() {
    for world in worlds().await {
        let ada = ada(&world).await;
        let by = asker();
        let project = &world.acme;
        let (shop, all) = (grant(Role::Editor, Some("shop")), grant(Role::QueryRunner, None));

        for grant in [&shop, &all, &shop] {
            world.clock.advance(Duration::from_millis(1));
            world.people.grant(project, &ada, grant, &by).await.expect("granted");
        }
        let has = world.people.get(project, &ada).await.expect("she is there").grants;
        assert_eq!(has, [all.clone(), shop.clone()]);
        world.clock.advance(Duration::from_millis(1));
        world.people.revoke(project, &ada, &all, &by).await.expect("she had it");
        let twice = world.people.revoke(project, &ada, &all, &by).await;
        assert_eq!(
            twice.expect_err("she lost it").to_string(),
            "ada@example.com does not have the role query_runner"
        );
        let dataset = "shop".parse().expect("a name");
        world
            .catalog
            .drop_dataset(project, &dataset, false)
            .await
            .expect("it is empty");

        assert_eq!(world.people.grants(project).await.expect("a list"), []);
        let written = deeds(&world).await;
        let expected = [
            "(house) create_project acme",
            "(house) create_user ada@example.com",
            "ada@example.com grant editor on shop to ada@example.com",
            "ada@example.com grant query_runner to ada@example.com",
            "ada@example.com grant editor on shop to ada@example.com",
            "ada@example.com revoke query_runner from ada@example.com",
        ];
        assert_eq!(written, expected);
        world.close().await;
    }
}

#[tokio::test]
async fn a_grant_by_statement_happens_when_its_query_ends() {
    for world in worlds().await {
        let ada = ada(&world).await;
        let viewer = grant(Role::Viewer, None);
        let effect = Effect::Grant {
            grants: vec![(ada.clone(), viewer.clone())],
            by: asker(),
        };
        let query = world.running("grant role viewer to ada").await;
        assert_eq!(world.people.grants(&world.acme).await.expect("a list"), []);

        let end = crate::catalog::db::tests::done(effect);
        let settled = world.queries.end(&query.id, end).await.expect("it ends");

        assert!(matches!(settled, Settled::Ended(_)));
        let granted = world.people.grants(&world.acme).await.expect("a list");
        assert_eq!((&granted[0].principal, &granted[0].grant), (&ada, &viewer));
        assert_eq!(granted[0].by, "ada@example.com");
        world.close().await;
    }
}

#[tokio::test]
async fn what_a_query_may_cost_is_said_by_its_asker_before_his_project() {
    for world in worlds().await {
        let ada = ada(&world).await;
        let by = Actor::house();
        let project = &world.acme;
        let keys = [(Some("ada@example.com"), HASH), (None, [9; 32])];
        for (holder, hash) in keys {
            let key = NewKey {
                name: format!("{holder:?}"),
                ..key_of(holder)
            };
            world.people.create_key(project, &key, &hash, &by).await.expect("new");
        }
        let money = |text: &str| Some(text.parse().expect("money"));
        let of_project = Defaults {
            max_cost: money("2.5"),
            max_bytes: Some(1_000),
        };
        let of_ada = Defaults {
            max_cost: money("0.25"),
            max_bytes: None,
        };

        let set = |name, defaults| world.people.set_defaults(project, name, defaults, &by);
        set(None, of_project).await.expect("the project is there");
        set(Some(&ada), of_ada).await.expect("she is there");

        let mut found = Vec::new();
        for (_, hash) in keys {
            found.push(
                world
                    .people
                    .open(&hash)
                    .await
                    .expect("an answer")
                    .expect("good")
                    .defaults,
            );
        }
        assert_eq!(found, [of_ada.or(of_project), of_project]);
        assert_eq!(found[0].max_bytes, Some(1_000));
        world.close().await;
    }
}

#[tokio::test]
async fn operators_have_keys_of_their_own() {
    for world in worlds().await {
        assert!(!world.people.has_operators().await.expect("an answer"));
        world.people.create_operator_key("ops", &HASH).await.expect("new");
        let again = world.people.create_operator_key("ops", &[8; 32]).await;
        assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");

        assert_eq!(
            world.people.operator(&HASH).await.expect("an answer").as_deref(),
            Some("ops")
        );
        assert_eq!(
            world.people.open(&HASH).await.expect("an answer"),
            None,
            "it opens no project"
        );
        world.people.revoke_operator_key("ops").await.expect("it was good");
        assert_eq!(world.people.operator(&HASH).await.expect("an answer"), None);
        assert!(world.people.has_operators().await.expect("an answer"));
        world.close().await;
    }
}

#[tokio::test]
async fn the_audit_log_is_read_in_pages_and_never_changes() {
    for world in worlds().await {
        let audit = Audit::new(&world.catalog);
        for object in ["a", "b", "c"] {
            world.clock.advance(Duration::from_millis(1));
            let deed = Deed::denied(&asker(), "drop_dataset", object);
            audit.record(&world.acme, &deed).await.expect("written");
        }

        let first = audit.lines(&world.acme, None, 2).await.expect("lines");
        let next = audit.lines(&world.acme, Some(&first[1].id), 2).await.expect("lines");

        let objects = |lines: &[crate::audit::AuditLine]| -> Vec<String> {
            lines.iter().map(|line| line.deed.object.clone()).collect()
        };
        assert_eq!(objects(&first), ["c", "b"]);
        assert_eq!(objects(&next), ["a", "acme"]);
        assert_eq!(first[0].deed.by, asker());
        assert!(!first[0].deed.is_allowed && next[1].deed.is_allowed);
        for change in ["update audit set who = 'nobody'", "delete from audit"] {
            let refused = world.tamper(change).await.expect_err("it never changes");
            assert!(refused.to_string().contains("audit log never changes"), "{refused}");
        }
        world.close().await;
    }
}

#[test]
fn a_role_of_the_project_cannot_be_had_for_a_dataset() {
    let refused = Grant::new(Role::QueryRunner, Some("shop".parse().expect("a name"))).expect_err("refused");
    assert_eq!(
        refused.to_string(),
        "query_runner is a role in the project, and cannot be had for the dataset shop alone"
    );
    let unknown = "king".parse::<Role>().expect_err("no such role");
    assert_eq!(
        unknown.to_string(),
        "no role named king; the roles are owner, editor, viewer, query_runner, function_publisher, billing_viewer"
    );
}
