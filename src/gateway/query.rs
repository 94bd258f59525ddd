//! Query parameters.

use axum::http::Uri;
use url::form_urlencoded;

/// All values of a parameter.
pub(super) fn all<'a>(uri: &'a Uri, name: &'a str) -> impl Iterator<Item = String> + 'a {
    pairs(uri)
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// The first value of a parameter that is not empty.
pub(super) fn first(uri: &Uri, name: &str) -> Option<String> {
    all(uri, name).find(|value| !value.is_empty())
}

/// All values of a parameter, given by repetition or as a list separated by commas.
pub(super) fn list(uri: &Uri, name: &str) -> Vec<String> {
    all(uri, name)
        .flat_map(|value| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .collect()
}

fn pairs(uri: &Uri) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}
