//! JSON bodies in, with bounds, and answers out.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};
use crate::state::Shared;

/// No body that this service reads is larger.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

/// Reads a request's body as JSON of a known shape.
pub(crate) async fn read<T: DeserializeOwned>(app: &Shared, request: Request) -> Result<T, Problem> {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "Send JSON with `Content-Type: application/json`.",
        ));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout(app.body_timeout, body).await;
    let body = body.map_err(|_| Problem::new(Code::Timeout, "The body did not arrive in time."))?;
    let bytes = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(Code::BodyTooLarge, format!("At most {BODY_BYTES_MAX} bytes."))
        } else {
            Problem::new(Code::InvalidRequest, "The body did not arrive whole.")
        }
    })?;
    parse(&bytes.to_bytes())
}

/// Reads JSON of a known shape.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() {
            Code::InvalidBody
        } else {
            Code::InvalidJson
        };
        // The text names the field, and for a wrong type its value, which may be a URL with a password.
        Problem::new(code, without_values(&error.to_string()))
    })
}

/// Serde's message without what it quotes of the input, except names of fields and variants.
fn without_values(message: &str) -> String {
    match message
        .split_once("invalid type: ")
        .or_else(|| message.split_once("invalid value: "))
    {
        Some((before, rest)) => match rest.split_once(", expected ") {
            Some((_, expected)) => format!("{before}wrong type or value, expected {expected}"),
            None => format!("{before}wrong type or value"),
        },
        None => message.to_owned(),
    }
}

/// `value` as a JSON answer.
pub(crate) fn answer(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>, Problem> {
    let body = serde_json::to_vec(value).map_err(Problem::internal)?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_does_not_come_back_in_the_message() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Shape {
            #[expect(dead_code)]
            port: u16,
        }
        let message =
            |text| without_values(&serde_json::from_str::<Shape>(text).expect_err(text).to_string());
        assert!(!message(r#"{"port":"rtsp://u:secret@h/"}"#).contains("secret"));
        assert!(message(r#"{"prot":1}"#).contains("prot"));
    }
}
