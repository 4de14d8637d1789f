//! 19 to 21: releases told in terms of the ones before: what travels, how fast the codecs are, and what happens
//! where nothing can be told so.

mod codecs;
mod flip;
mod unrelated;
mod upgrade;
mod wire;

pub(super) use codecs::rows as codecs;
pub(super) use unrelated::rows as unrelated;
pub(super) use wire::rows as wire;
