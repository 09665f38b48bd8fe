use super::*;

fn report(sql: &str, line: usize, column: usize) -> String {
    let (code, message) = ("unknown_table".to_owned(), "no table named shop.sale".to_owned());
    let refusal = Refusal {
        code,
        message,
        line: Some(line),
        column: Some(column),
        retry_after: None,
    };
    Report {
        error: client::Error::Refused(refusal),
        sql: sql.to_owned(),
    }
    .to_string()
}

#[test]
fn an_error_points_at_the_place_in_the_sql() {
    let expected = "unknown_table: no table named shop.sale\n2 | from shop.sale\n         ^";
    assert_eq!(report("select 1\nfrom\tshop.sale", 2, 6), expected);
}

#[test]
fn wide_letters_before_the_place_are_counted_as_cells() {
    let shown = report("select '東京', x", 1, 14);
    assert!(shown.ends_with(&format!("\n{}^", " ".repeat(19))), "{shown}");
}

#[test]
fn a_place_outside_the_sql_is_not_shown() {
    assert_eq!(report("select 1", 7, 1), "unknown_table: no table named shop.sale");
}

#[test]
fn pages_of_csv_have_one_header_and_are_counted_by_records() {
    let page = "a,b\n1,\"x\ny\"\n\n";
    assert_eq!(csv_rows(page, true), (page, 2));
    assert_eq!(csv_rows(page, false), ("1,\"x\ny\"\n\n", 2));
    assert_eq!(csv_rows("a\r\n1\r\n", false), ("1\r\n", 1));
    assert_eq!(csv_rows("a\n", false), ("", 0));
}

#[test]
fn pages_of_json_lines_lose_their_last_line() {
    let page = "{\"a\":1}\n{\"a\":2}\n{\"$end\":{\"total_rows\":2}}\n";
    assert_eq!(json_rows(page, true), ("{\"a\":1}\n{\"a\":2}\n", 2));
    assert_eq!(json_rows("{\"$end\":{}}\n", true), ("", 0));
}
