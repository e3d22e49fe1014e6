//! What an operation is given, read whole or refused with what is wrong and where.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::refused::Refused;
use crate::server::http::own_site::text;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

/// Parameters behind the `?`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let kind = text(request.headers(), header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let is_json = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Refused::new(error.status(), error.body_text()))?;
        // A page of another site can send forms and plain text without being asked, but not this.
        if !is_json && !body.is_empty() {
            let detail = "the body must be JSON; send `content-type: application/json`";
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
        let parsed = serde_json::from_slice(&body);
        parsed.map(Self).map_err(|error| {
            Refused::new(StatusCode::BAD_REQUEST, format!("the body is not what is taken here: {error}"))
        })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let parsed = Query::<T>::from_request_parts(parts, state).await;
        parsed.map(|Query(parameters)| Self(parameters)).map_err(|error| {
            Refused::new(StatusCode::BAD_REQUEST, format!("the parameters are wrong: {}", error.body_text()))
        })
    }
}
