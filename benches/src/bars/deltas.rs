//! 19 to 22: releases told in terms of others: what travels, how fast the codecs are, what happens where nothing can be
//! told so, and what a store takes in which older ones are.

mod codecs;
mod flip;
mod stored;
mod unrelated;
mod upgrade;
mod wire;

pub(super) use codecs::rows as codecs;
pub(super) use stored::rows as stored;
pub(super) use unrelated::rows as unrelated;
pub(super) use wire::rows as wire;
