//! Errors: whatever is wrong, the answer is JSON with a status, a code and a sentence.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::{ApiError, Warehouse, shop};

/// Runs until somebody stops it.
const ENDLESS: &str = "select count(*) from generate_series(1, 10000000000) a where value % 7 = 3";

/// The most that a request other than an upload may weigh.
const BODY_BYTES: usize = 2 << 20;

/// How a request was refused.
async fn refusal(request: RequestBuilder) -> ApiError {
    let response = request.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    let text = response.text().await.expect("the answer ends well");
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} without a JSON error: {text}"));
    ApiError::from_json(status, &body["error"])
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_said_in_json() {
    let warehouse = shop().await;
    let get = |path: &str| warehouse.request(Method::GET, path);
    let post = |path: &str| warehouse.request(Method::POST, path);

    let requests = [
        ("an id that is not text", get("/v1/queries/%ff"), 400, "invalid_request"),
        (
            "a dataset that is not text",
            get("/v1/datasets/%ff"),
            400,
            "invalid_request",
        ),
        (
            "a table that is not text",
            get("/v1/datasets/shop/tables/%ff"),
            400,
            "invalid_request",
        ),
        (
            "an option that nobody knows",
            get("/v1/queries?colour=red"),
            400,
            "invalid_request",
        ),
        (
            "an option of another type",
            get("/v1/queries?limit=many"),
            400,
            "invalid_request",
        ),
        (
            "a body of an unknown kind",
            post("/v1/queries").body("{}"),
            400,
            "invalid_request",
        ),
        (
            "a body that is not JSON",
            post("/v1/queries").header("content-type", "application/json").body("{"),
            400,
            "invalid_request",
        ),
        (
            "a body that is not text",
            post("/v1/sql").body(vec![0xff_u8, 0xfe]),
            400,
            "invalid_request",
        ),
        (
            "a body that is too large",
            post("/v1/sql").body(vec![b' '; BODY_BYTES + 1]),
            413,
            "too_large",
        ),
        (
            "a body in an encoding that nobody unpacks",
            post("/v1/sql").header("content-encoding", "br").body("select 1"),
            415,
            "invalid_request",
        ),
        (
            "a body that is not packed as it says",
            post("/v1/sql").header("content-encoding", "gzip").body("select 1"),
            400,
            "invalid_request",
        ),
        ("a path that leads nowhere", get("/v1/nowhere"), 404, "not_found"),
        (
            "a method that means nothing there",
            warehouse.request(Method::DELETE, "/v1/sql"),
            405,
            "invalid_request",
        ),
    ];
    for (what, request, status, code) in requests {
        let error = refusal(request).await;
        assert_eq!((error.status, error.code.as_str()), (status, code), "{what}: {error}");
        assert!(!error.message.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_query_whose_gateway_died_is_not_the_callers_fault() {
    let mut warehouse = Warehouse::start().await;
    let id = warehouse.send(ENDLESS).await;

    warehouse.kill().await;
    warehouse.restart().await;

    let query = warehouse.ended(&id).await;
    let error = warehouse
        .get(&format!("/v1/queries/{id}/results"))
        .await
        .expect_err("a lost query has no rows");
    assert_eq!(query["state"], "lost");
    assert_eq!((error.status, error.code.as_str()), (503, "lost"), "{error}");
    assert_eq!(error.query_id, Some(id));
}

#[tokio::test]
async fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let warehouse = shop().await;

    for (path, meant) in [
        ("/v1/datasets/shpo", "shop"),
        ("/v1/datasets/shpo/tables", "shop"),
        ("/v1/datasets/shop/tables/sale", "shop.sales"),
        ("/v1/datasets/shop/tables/sale/versions", "shop.sales"),
        ("/v1/datasets/shpo/tables/sales", "shop.sales"),
    ] {
        let error = warehouse.get(path).await.expect_err(path);

        assert_eq!((error.status, error.code.as_str()), (404, "not_found"), "{path}");
        let hint = format!("did you mean {meant}?");
        assert!(error.message.ends_with(&hint), "{path}: {error}");
    }
    let error = warehouse
        .get("/v1/datasets/warehouse")
        .await
        .expect_err("nothing is called like that");
    assert!(!error.message.contains("did you mean"), "{error}");
}
