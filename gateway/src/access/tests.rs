use super::*;

fn caller(held: Option<&[&str]>, scope: Option<&[&str]>) -> Caller {
    let grants = |texts: &[&str]| texts.iter().map(|text| grant(text)).collect();
    Caller {
        project: "acme".parse().expect("a name"),
        actor: Actor::house(),
        defaults: Defaults::default(),
        budgets: Arc::default(),
        expires_at: None,
        rights: Arc::new(Rights {
            held: held.map(grants),
            scopes: scope.map(grants).into_iter().collect(),
        }),
    }
}

/// `role` or `role on dataset`.
fn grant(text: &str) -> Grant {
    let (role, dataset) = match text.split_once(" on ") {
        Some((role, dataset)) => (role, Some(dataset.parse().expect("a name"))),
        None => (text, None),
    };
    Grant::new(role.parse().expect("a role"), dataset).expect("it can be had there")
}

/// What somebody may do, each act as a letter, in the shop and elsewhere.
fn may(caller: &Caller) -> String {
    let (shop, other) = ("shop".parse().expect("a name"), "other".parse().expect("a name"));
    let acts = [
        ("run", Act::Run),
        ("read", Act::Read(&shop)),
        ("read other", Act::Read(&other)),
        ("write", Act::Write(&shop)),
        ("write other", Act::Write(&other)),
        ("create", Act::CreateDataset),
        ("drop", Act::DropDataset(&shop)),
        ("drop other", Act::DropDataset(&other)),
        ("queries", Act::SeeQueries),
        ("bills", Act::ReadBills),
        ("grant", Act::Grant(Some(&shop))),
        ("grant other", Act::Grant(Some(&other))),
        ("grant all", Act::Grant(None)),
        ("people", Act::ManagePeople),
        ("budgets", Act::SetBudgets),
        ("audit", Act::ReadAudit),
    ];
    let allowed: Vec<&str> = acts
        .iter()
        .filter(|(_, act)| caller.can(*act))
        .map(|(word, _)| *word)
        .collect();
    allowed.join(", ")
}

const EVERYTHING: &str = "run, read, read other, write, write other, create, drop, drop other, queries, bills, grant, \
                          grant other, grant all, people, budgets, audit";

#[test]
fn each_role_allows_what_its_line_says_and_nothing_else() {
    for (role, allowed) in [
        ("owner", EVERYTHING),
        (
            "editor",
            "run, read, read other, write, write other, create, drop, drop other",
        ),
        ("viewer", "read, read other"),
        ("query_runner", "run"),
        ("function_publisher", ""),
        ("billing_viewer", "bills"),
        ("owner on shop", "read, write, drop, grant"),
        ("editor on shop", "read, write"),
        ("viewer on shop", "read"),
        ("function_publisher on shop", ""),
    ] {
        assert_eq!(may(&caller(Some(&[role]), None)), allowed, "{role}");
        // A key that has it as its scope allows no more, whoever holds it.
        assert_eq!(may(&caller(None, Some(&[role]))), allowed, "{role}");
        assert_eq!(may(&caller(Some(&["owner"]), Some(&[role]))), allowed, "{role}");
        assert_eq!(may(&caller(Some(&[role]), Some(&["owner"]))), allowed, "{role}");
    }
}

#[test]
fn a_key_of_the_project_allows_everything_and_who_has_no_role_nothing() {
    assert_eq!(may(&caller(None, None)), EVERYTHING);
    assert_eq!(may(&caller(Some(&[]), None)), "");
    assert_eq!(may(&caller(None, Some(&[]))), "");
}

#[test]
fn roles_add_up_and_a_scope_takes_away() {
    let roles: &[&str] = &["viewer on shop", "query_runner", "editor on other"];
    assert_eq!(may(&caller(Some(roles), None)), "run, read, read other, write other");
    assert_eq!(may(&caller(Some(roles), Some(&["editor on shop"]))), "read");
    assert_eq!(
        may(&caller(Some(roles), Some(&["viewer", "query_runner"]))),
        "run, read, read other"
    );
}

#[test]
fn everything_is_there_only_for_who_reads_the_whole_project() {
    for (held, scope, sees) in [
        (None, None, true),
        (Some(&["viewer"] as &[_]), None, true),
        (Some(&["viewer on shop"]), None, false),
        (Some(&["billing_viewer"]), None, false),
        (None, Some(&["editor on shop"] as &[_]), false),
        (Some(&["owner"]), Some(&["viewer"]), true),
    ] {
        assert_eq!(caller(held, scope).sees_all(), sees, "{held:?} {scope:?}");
    }
}

#[test]
fn who_may_not_is_told_what_he_wanted_and_what_it_takes() {
    let shop = "shop".parse().expect("a name");
    let denied = caller(Some(&["viewer"]), None)
        .may(Act::Write(&shop))
        .expect_err("he may not");
    assert_eq!(
        denied.to_string(),
        "you may not change shop: that takes the role editor or owner"
    );
}
