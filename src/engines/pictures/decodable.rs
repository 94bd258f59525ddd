//! Whether a JPEG or PNG can be decoded, within bounds of size and memory.

use png::Limits;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::contract::PictureKind;

/// The longest side, in pixels. Chosen: more than a phone's camera has, and at most 64 MiB when decoded.
const SIDE_MAX: usize = 4_096;

/// The most memory that the decoder of PNGs takes for anything but pixels.
const PNG_BYTES_MAX: usize = 16 << 20;

const TOO_LARGE: &str = "must be a picture of at most 4096 × 4096 pixels";
const BROKEN: &str = "must be a whole picture: it cannot be decoded";

/// Decodes a picture, and drops it.
///
/// # Errors
/// With what is wrong.
pub(super) fn check(kind: PictureKind, bytes: &[u8]) -> Result<(), &'static str> {
    match kind {
        PictureKind::Jpeg => jpeg(bytes),
        PictureKind::Png => png(bytes),
    }
}

fn jpeg(bytes: &[u8]) -> Result<(), &'static str> {
    // Strict: otherwise the missing part of a picture is filled with grey.
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|_| BROKEN)?;
    let (width, height) = decoder.dimensions().ok_or(BROKEN)?;
    if width.max(height) > SIDE_MAX {
        return Err(TOO_LARGE);
    }
    decoder.decode().map(drop).map_err(|_| BROKEN)
}

fn png(bytes: &[u8]) -> Result<(), &'static str> {
    let limits = Limits {
        bytes: PNG_BYTES_MAX,
    };
    let decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    let mut reader = decoder.read_info().map_err(|_| BROKEN)?;
    let side = reader.info().width.max(reader.info().height);
    if usize::try_from(side).unwrap_or(usize::MAX) > SIDE_MAX {
        return Err(TOO_LARGE);
    }
    // By rows, so that the pixels are never in memory all together.
    while reader.next_row().map_err(|_| BROKEN)?.is_some() {}
    reader.finish().map_err(|_| BROKEN)
}
