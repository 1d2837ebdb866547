//! A body as it came: decompressed if it can be, cut, and masked.

use std::borrow::Cow;

use super::{Captured, Shown, Text, boundary, decode};
use crate::decode::Decoder;
use crate::mask::Mask;

/// The body as it came, without its compression.
pub(super) fn keep<'a>(body: &Captured<'a>, cap: usize, mask: &Mask) -> Shown<'a> {
    let (head, is_whole) = decoded_head(body, cap);
    let truncated = !is_whole || body.is_cut();
    // Where it is cut, that may be in the middle of a character.
    let end = match std::str::from_utf8(&head) {
        Err(error) if truncated && error.error_len().is_none() => error.valid_up_to(),
        _ => head.len(),
    };
    let apply = if truncated { Mask::apply_cut } else { Mask::apply };
    let masked = match head {
        Cow::Borrowed(head) => apply(mask, &head[..end]),
        Cow::Owned(head) => Cow::Owned(apply(mask, &head[..end]).into_owned()),
    };
    let text = match masked {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Text::Utf8(text.into()),
            Err(_) => Text::Base64(bytes.into()),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(mut text) => {
                // The mark may be longer than the beginning of a secret.
                text.truncate(boundary(&text, cap));
                Text::Utf8(text.into())
            }
            Err(error) => {
                let mut bytes = error.into_bytes();
                bytes.truncate(cap);
                Text::Base64(bytes.into())
            }
        },
    };
    Shown { text, truncated, reassembled: false }
}

/// Up to `cap` bytes of the body, decoded if they can be, and whether that is all there are.
fn decoded_head<'a>(body: &Captured<'a>, cap: usize) -> (Cow<'a, [u8]>, bool) {
    let mut head = Vec::new();
    if Decoder::new(body.encoding).is_some() {
        let mut is_whole = true;
        let is_sound = decode(body, |piece| {
            let room = cap - head.len();
            head.extend_from_slice(&piece[..piece.len().min(room)]);
            is_whole = piece.len() <= room;
            is_whole
        });
        if !head.is_empty() || is_sound || !is_whole {
            return (head.into(), is_sound && is_whole);
        }
    }
    // What is not what it claims to be is shown as it is.
    (body.bytes[..body.bytes.len().min(cap)].into(), body.bytes.len() <= cap)
}
