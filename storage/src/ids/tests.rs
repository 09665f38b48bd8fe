use super::*;

fn now() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000)
}

#[test]
fn a_name_is_a_lower_case_identifier() {
    for good in ["a", "_", "tpch", "a1_b2", &"x".repeat(63)] {
        assert_eq!(good.parse::<ProjectId>().expect(good).to_string(), good);
    }
    for bad in [
        "",
        "1a",
        "Tpch",
        "a-b",
        "a b",
        "a.b",
        "ü",
        "a/b",
        "..",
        "a\0",
        &"x".repeat(64),
    ] {
        assert!(bad.parse::<ProjectId>().is_err(), "{bad:?} was taken for a name");
        assert!(bad.parse::<DatasetName>().is_err(), "{bad:?} was taken for a name");
    }
}

#[test]
fn a_table_name_has_exactly_two_parts() {
    let name: TableName = "shop.sales".parse().expect("two identifiers");

    assert_eq!((name.dataset().as_str(), name.table()), ("shop", "sales"));
    assert_eq!(name.to_string(), "shop.sales");
    for bad in [
        "sales",
        "a.b.c",
        ".b",
        "a.",
        "a..b",
        "information_schema.tables",
        "Shop.sales",
    ] {
        assert!(bad.parse::<TableName>().is_err(), "{bad:?} was taken for a table name");
    }
}

#[test]
fn the_dataset_of_sql_itself_is_reserved() {
    let error = "information_schema".parse::<DatasetName>().expect_err("it is reserved");

    assert_eq!(
        error.to_string(),
        "'information_schema' cannot name a dataset: it belongs to SQL itself"
    );
}

#[test]
fn an_id_has_one_spelling() {
    let id = QueryId::new(now());

    assert_eq!(id.to_string().parse::<QueryId>(), Ok(id.clone()));
    assert!(id.to_string().to_uppercase().parse::<QueryId>().is_err());
    assert!(id.to_string().parse::<TableUid>().is_err(), "a query id is no table id");
    assert!(
        id.to_string().parse::<WorkerId>().is_err(),
        "a query id is no worker id"
    );
    assert!("q_0189".parse::<QueryId>().is_err());
}

#[test]
fn an_id_made_later_sorts_later() {
    let early = QueryId::new(now());
    let late = QueryId::new(now().plus(std::time::Duration::from_millis(1)));

    assert!(early < late);
    assert!(early.to_string() < late.to_string());
}

#[test]
fn a_document_cannot_smuggle_in_a_bad_name() {
    assert!(serde_json::from_str::<TableName>(r#""a.b""#).is_ok());
    assert!(serde_json::from_str::<TableName>(r#""a.b/../c""#).is_err());
    assert!(serde_json::from_str::<ProjectId>(r#""../x""#).is_err());
    assert!(serde_json::from_str::<QueryId>(r#""q_""#).is_err());
}

#[test]
fn an_error_quotes_only_the_beginning_of_a_long_text() {
    let error = "é".repeat(10_000).parse::<ProjectId>().expect_err("it is too long");

    assert!(error.to_string().len() < 400, "{error}");
}
