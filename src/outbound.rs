//! The one HTTP client: with deadlines, without redirects, with bodies cut to a size.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};

/// A client whose every request ends within the time given.
///
/// # Errors
/// When the TLS set-up of the machine is unusable.
pub fn client(deadline: Duration) -> Result<Client, reqwest::Error> {
    // Where somebody was first, it was with the same one: there is no other in the program.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::builder()
        .timeout(deadline)
        .redirect(Policy::none())
        .build()
}

/// Sends a GET and reads at most `limit` bytes of the answer.
///
/// # Errors
/// When there is no answer within the client's deadline.
pub async fn get(
    client: &Client,
    url: &str,
    limit: usize,
) -> Result<(u16, String), reqwest::Error> {
    let response = client.get(url).send().await?;
    let status = response.status().as_u16();
    Ok((status, read_capped(response, limit).await?))
}

async fn read_capped(mut response: Response, limit: usize) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if chunk.len() > room {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
