use std::fs;

use reqwest::Method;

use super::*;

fn server(data: &Path) -> Server {
    Server {
        url: None,
        key: None,
        data: data.to_owned(),
        project: None,
    }
}

fn with_files() -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a directory can be made");
    let write = |name: &str, text: &str| fs::write(data.path().join(name), text).expect("a file can be written");
    write(
        "client.toml",
        "url = \"http://127.0.0.1:8080\"\nproject = \"main\"\nkey = \"wh_main\"\n",
    );
    write(
        "demo.toml",
        "url = \"http://127.0.0.1:8080\"\nproject = \"demo\"\nkey = \"wh_demo\"\n",
    );
    data
}

#[test]
fn address_and_key_come_from_the_client_file() {
    let data = with_files();

    let client = server(data.path()).connect().expect("the file says enough");

    assert_eq!(
        (client.url.as_str(), client.key.as_str()),
        ("http://127.0.0.1:8080/", "wh_main")
    );
}

#[test]
fn a_project_has_a_client_file_of_its_own() {
    let data = with_files();

    let client = Server {
        project: Some("demo".to_owned()),
        ..server(data.path())
    }
    .connect()
    .expect("there is one");

    assert_eq!(client.key, "wh_demo");
}

#[test]
fn flags_win_over_the_file_and_need_no_file() {
    let nowhere = server(Path::new("nowhere"));
    let url = Some("https://house.example/base".to_owned());

    let client = Server {
        url,
        key: Some("wh_flag".to_owned()),
        ..nowhere
    }
    .connect()
    .expect("the flags say enough");

    assert_eq!(client.key, "wh_flag");
    let request = client
        .request(Method::GET, &["datasets", "a/b", "tables"])
        .build()
        .expect("a good address");
    assert_eq!(
        request.url().as_str(),
        "https://house.example/base/v1/datasets/a%2Fb/tables"
    );
}

#[test]
fn a_kept_key_is_not_sent_to_another_server() {
    let data = with_files();

    let other = Server {
        url: Some("http://elsewhere.example".to_owned()),
        ..server(data.path())
    }
    .connect();

    let error = other.expect_err("the key belongs to somebody else").to_string();
    assert!(error.starts_with("no key for http://elsewhere.example"), "{error}");
    let same = Server {
        url: Some("http://127.0.0.1:8080/".to_owned()),
        ..server(data.path())
    };
    assert_eq!(same.connect().expect("the same server").key, "wh_main");
}

#[test]
fn without_any_of_them_the_error_says_what_to_do() {
    let error = server(Path::new("nowhere"))
        .connect()
        .expect_err("there is no file")
        .to_string();
    assert!(
        error.contains("WASMHOUSE_URL") && error.contains("client.toml"),
        "{error}"
    );
}
