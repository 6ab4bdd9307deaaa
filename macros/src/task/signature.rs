//! A task's signature as text, for people and for the fingerprint of the dispatch table.

use quote::ToTokens as _;

use super::model::Model;
use crate::text;

/// Input: the model of `async fn f(a: u64, b: Vec<u8>) -> bool`.
/// Output: `async fn(u64, Vec<u8>) -> bool`.
pub(crate) fn signature(model: &Model) -> String {
    let keyword = if model.is_async { "async " } else { "" };
    let args: Vec<_> = model.args.iter().map(|ty| text::of(ty.to_token_stream())).collect();
    let output = model.output.as_ref();
    let output =
        output.map(|ty| format!(" -> {}", text::of(ty.to_token_stream()))).unwrap_or_default();
    format!("{keyword}fn({}){output}", args.join(", "))
}
