//! The contract over HTTP, as a browser speaks it.

use embedbar_tests::program::TestHome;
use serde_json::{Value, json};

pub(crate) fn call(origin: &str, token: &str, method: &str, params: &Value) -> Result<Value, u16> {
    match try_call(origin, token, method, params) {
        Ok(reply) => Ok(reply),
        Err(ureq::Error::StatusCode(code)) => Err(code),
        Err(error) => panic!("{method}: {error}"),
    }
}

/// A call to a server that may die meanwhile.
pub(crate) fn try_call(origin: &str, token: &str, method: &str, params: &Value) -> Result<Value, ureq::Error> {
    ureq::post(format!("{origin}/api/call/{method}"))
        .header("Authorization", format!("Bearer {token}"))
        .send_json(params)?
        .body_mut()
        .read_json()
}

#[test]
fn a_browser_gets_the_same_answers_as_the_command_line() {
    let home = TestHome::new();
    let server = home.serve();
    let (origin, token) = server.origin_and_token();
    let reply = call(origin, token, "embed", &json!({ "texts": ["hello"] })).expect("it is allowed");
    let same = reply["items"][0]["embedding"] == home.json(&["embed", "hello"])[0]["embedding"];
    assert!(same, "the same vector to the last digit");
    let snapshot = call(origin, token, "snapshot", &json!({})).expect("it is allowed");
    assert_eq!(snapshot["model"]["state"], "ready");
}

#[test]
fn without_the_token_nothing_is_answered() {
    let home = TestHome::new();
    let server = home.serve();
    let (origin, _) = server.origin_and_token();
    assert_eq!(call(origin, "wrong", "snapshot", &json!({})), Err(401));
}
