//! What is taken for a picture, and what a URL is answered with.

use super::*;
use crate::engines::Disposition;

const JPEG: &[u8] = include_bytes!("../../../tests/support/data/pictures/small.jpg");
const PNG: &[u8] = include_bytes!("../../../tests/support/data/pictures/small.png");
const WIDE: &[u8] = include_bytes!("../../../tests/support/data/pictures/wide.png");

fn checked(kind: PictureKind, bytes: &[u8]) -> Result<(), &'static str> {
    assert_eq!(PictureKind::of(bytes), Some(kind));
    decodable::check(kind, bytes)
}

#[test]
fn whole_pictures_are_decoded() {
    assert_eq!(checked(PictureKind::Jpeg, JPEG), Ok(()));
    assert_eq!(checked(PictureKind::Png, PNG), Ok(()));
}

#[test]
fn a_picture_that_breaks_off_anywhere_is_none() {
    for (kind, bytes) in [(PictureKind::Jpeg, JPEG), (PictureKind::Png, PNG)] {
        // The marker at a file's end adds nothing to the picture.
        for end in 12..bytes.len() - 12 {
            let cut = bytes.get(..end).unwrap();
            assert!(checked(kind, cut).is_err(), "{kind:?} of {end} bytes");
        }
    }
}

#[test]
fn a_picture_with_one_wrong_byte_never_stops_the_process() {
    for (kind, bytes) in [(PictureKind::Jpeg, JPEG), (PictureKind::Png, PNG)] {
        for at in 0..bytes.len() {
            for flipped in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.to_vec();
                *bytes.get_mut(at).unwrap() ^= flipped;
                decodable::check(kind, &bytes).ok();
            }
        }
    }
}

#[test]
fn a_picture_with_a_long_side_is_too_large() {
    let wrong = checked(PictureKind::Png, WIDE).unwrap_err();
    assert!(wrong.contains("4096"), "{wrong}");
    let mut jpeg = JPEG.to_vec();
    let frame = jpeg.windows(2).position(|it| it == b"\xff\xc0").unwrap();
    // The height is behind marker, length and precision.
    jpeg.splice(frame + 5..frame + 7, [0xff, 0xff]);
    let wrong = checked(PictureKind::Jpeg, &jpeg).unwrap_err();
    assert!(wrong.contains("4096"), "{wrong}");
}

fn answer(status: u16) -> Answer {
    Answer {
        status,
        retry_after: None,
        content_type: None,
        body: PNG.to_vec(),
        truncated: false,
    }
}

#[test]
fn what_is_no_picture_is_refused_and_a_failing_server_is_asked_again() {
    assert_eq!(picture_in(answer(200)).unwrap(), PNG);
    for status in [301, 302, 308, 400, 401, 403, 404, 410] {
        let error = picture_in(answer(status)).unwrap_err();
        assert_eq!(error.disposition(), Disposition::Reject, "{error}");
        assert!(error.to_string().starts_with(URL), "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let error = picture_in(answer(status)).unwrap_err();
        assert_eq!(
            error.disposition(),
            Disposition::Retry { after: None },
            "{error}"
        );
        assert!(error.is_lasting(), "{error}");
        assert!(error.counts_as_attempt(), "{error}");
        assert_eq!(error.code(), crate::contract::ErrorCode::EngineUnavailable);
        // It says nothing of WhatsApp, so it ends no pause of the account.
        assert!(!error.is_answer(), "{error}");
    }
    let longer = Answer {
        truncated: true,
        ..answer(200)
    };
    let error = picture_in(longer).unwrap_err();
    assert!(error.to_string().contains("more than 4 MiB"), "{error}");
}

#[test]
fn the_permit_to_decode_is_held_until_the_decoder_has_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // The only thread is busy, so the decoder of the picture waits for it.
        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv().ok());
        let pictures = Pictures::of_tests();
        let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, PNG);
        let source = serde_json::from_value(serde_json::json!({ "data": data })).unwrap();
        {
            let mut obtaining = std::pin::pin!(pictures.obtain(&source));
            assert!(futures_util::poll!(&mut obtaining).is_pending());
        }
        // The command was given up; its decoder has not begun.
        assert_eq!(pictures.decoding.available_permits(), 0);
        release.send(()).unwrap();
        busy.await.unwrap();
        drop(pictures.decoding.acquire().await.unwrap());
        assert!(pictures.obtain(&source).await.is_ok());
    });
}
