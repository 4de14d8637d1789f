//! How values are told: bytes that are alike for what is alike.

use super::model::Model;
use super::names::Names;
use crate::DeltaError;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// By how much it differs from what was expected.
    Near(u64),
    /// 8 bytes.
    Word,
    Type,
    /// A list of attributes, from 1 on.
    Attributes,
    /// A group of attributes, from 1 on.
    Group,
    /// A value, as the distance of its number from the next one's, in 32 bits.
    Back,
    /// The same, signed: the sign is the lowest bit.
    SignedBack,
    Value,
    /// One more than a value's number, or 0.
    ValueOrNone,
    /// A block of the function, near the one that this is in.
    Block,
    /// A module, of several.
    Module,
    /// A value of a summary of many modules.
    Entry,
    /// A place in the file that lies behind.
    Later,
}

const PLACE: u8 = 0xc0;
const BEFORE: u8 = 0xfc;
const BEHIND: u8 = 0xfd;
const RAW: u8 = 0xfe;
/// The bits of a number that wraps around.
const LOW: u64 = 0xffff_ffff;

pub(super) fn put(form: Form, value: u64, model: &Model, out: &mut Vec<u8>) {
    match form {
        Form::Plain | Form::Later => number(out, value),
        Form::Near(expected) => number(out, zigzag(value.wrapping_sub(expected))),
        Form::Block => number(out, zigzag(value.wrapping_sub(model.block))),
        Form::Word => out.extend_from_slice(&value.to_le_bytes()),
        Form::Type => put_name(out, Some(value), value, &model.types, model.types.len() as u64),
        Form::Module => put_name(out, Some(value), value, &model.modules, model.modules.len() as u64),
        Form::Attributes => put_or_none(out, value, &model.attributes, model.attributes.len() as u64),
        Form::Group => put_or_none(out, value, &model.groups, model.groups.len() as u64),
        Form::Value => put_name(out, Some(value), value, &model.values, model.next),
        Form::Entry => {
            let distance = model.index.as_ref().and_then(|index| index.distance(value));
            match distance.filter(|_| model.values.place(value).is_none()) {
                Some(distance) => put_distance(out, distance),
                None => put_name(out, Some(value), value, &model.values, model.next),
            }
        }
        Form::ValueOrNone => put_or_none(out, value, &model.values, model.next),
        Form::Back => {
            let back = u32::try_from(value).ok();
            let absolute = back.map(|back| model.next.wrapping_sub(u64::from(back)) & LOW);
            put_name(out, absolute, value, &model.values, model.next);
        }
        Form::SignedBack => {
            let by = if value & 1 == 0 { (value >> 1).cast_signed() } else { -(value >> 1).cast_signed() };
            let absolute = model.next.cast_signed().wrapping_sub(by);
            // There are two zeros.
            let absolute = u32::try_from(absolute).ok().filter(|_| value != 1).map(u64::from);
            put_name(out, absolute, value, &model.values, model.next);
        }
    }
}

fn put_distance(out: &mut Vec<u8>, distance: i64) {
    let distance = zigzag(distance.cast_unsigned());
    match u8::try_from(distance + 1) {
        Ok(short) if short < PLACE => out.push(short),
        _ => {
            out.push(BEFORE);
            number(out, distance);
        }
    }
}

/// As a value, but for what lies before: that is a distance of ranks.
fn take_entry(model: &Model, bytes: &mut &[u8]) -> Result<u64, DeltaError> {
    let distance = match bytes.split_first() {
        Some((&short @ 1..PLACE, rest)) => {
            *bytes = rest;
            u64::from(short) - 1
        }
        Some((&BEFORE, rest)) => {
            *bytes = rest;
            take_number(bytes)?
        }
        _ => return named(take_name(bytes, &model.values, model.next)?),
    };
    let index = model.index.as_ref().ok_or(DeltaError::Invalid("a number out of bounds"))?;
    let number = index.at_distance(unzigzag(distance).cast_signed());
    number.ok_or(DeltaError::Invalid("a number out of bounds"))
}

fn put_or_none(out: &mut Vec<u8>, value: u64, names: &Names, next: u64) {
    match value.checked_sub(1) {
        Some(value) => put_name(out, Some(value), value, names, next),
        None => out.push(0),
    }
}

/// By name, or by how far it lies from the next one.
fn put_name(out: &mut Vec<u8>, absolute: Option<u64>, raw: u64, names: &Names, next: u64) {
    let Some(absolute) = absolute else {
        out.push(RAW);
        return number(out, raw);
    };
    if let Some(place) = names.place(absolute) {
        out.extend_from_slice(&[PLACE + (place >> 8) as u8, (place & 0xff) as u8]);
    } else if absolute < next {
        match u8::try_from(next - absolute) {
            Ok(back) if back < PLACE => out.push(back),
            _ => {
                out.push(BEFORE);
                number(out, next - absolute);
            }
        }
    } else {
        out.push(BEHIND);
        number(out, absolute - next);
    }
}

pub(super) fn take(form: Form, model: &Model, bytes: &mut &[u8]) -> Result<u64, DeltaError> {
    Ok(match form {
        Form::Plain | Form::Later => take_number(bytes)?,
        Form::Near(expected) => unzigzag(take_number(bytes)?).wrapping_add(expected),
        Form::Block => unzigzag(take_number(bytes)?).wrapping_add(model.block),
        Form::Word => {
            let (word, rest) = bytes.split_first_chunk().ok_or(DeltaError::Truncated)?;
            *bytes = rest;
            u64::from_le_bytes(*word)
        }
        Form::Type => named(take_name(bytes, &model.types, model.types.len() as u64)?)?,
        Form::Module => named(take_name(bytes, &model.modules, model.modules.len() as u64)?)?,
        Form::Attributes => or_none(take_name(bytes, &model.attributes, model.attributes.len() as u64)?)?,
        Form::Group => or_none(take_name(bytes, &model.groups, model.groups.len() as u64)?)?,
        Form::Value => named(take_name(bytes, &model.values, model.next)?)?,
        Form::Entry => take_entry(model, bytes)?,
        Form::ValueOrNone => or_none(take_name(bytes, &model.values, model.next)?)?,
        Form::Back => match take_name(bytes, &model.values, model.next)? {
            Name::Of(absolute) => model.next.wrapping_sub(absolute) & LOW,
            Name::Raw(raw) => raw,
            Name::None => return Err(DeltaError::Invalid("nothing where a value is due")),
        },
        Form::SignedBack => match take_name(bytes, &model.values, model.next)? {
            Name::Of(absolute) => {
                let by = model.next.cast_signed().wrapping_sub(absolute.cast_signed());
                by.unsigned_abs() << 1 | u64::from(by < 0)
            }
            Name::Raw(raw) => raw,
            Name::None => return Err(DeltaError::Invalid("nothing where a value is due")),
        },
    })
}

enum Name {
    None,
    Of(u64),
    Raw(u64),
}

fn named(name: Name) -> Result<u64, DeltaError> {
    match name {
        Name::Of(absolute) => Ok(absolute),
        Name::None | Name::Raw(_) => Err(DeltaError::Invalid("nothing where a value is due")),
    }
}

fn or_none(name: Name) -> Result<u64, DeltaError> {
    match name {
        Name::None => Ok(0),
        name => named(name)?.checked_add(1).ok_or(DeltaError::Invalid("a number out of bounds")),
    }
}

fn take_name(bytes: &mut &[u8], names: &Names, next: u64) -> Result<Name, DeltaError> {
    let (&first, rest) = bytes.split_first().ok_or(DeltaError::Truncated)?;
    *bytes = rest;
    let of = |number: Option<u64>| number.map(Name::Of).ok_or(DeltaError::Invalid("a number out of bounds"));
    match first {
        0 => Ok(Name::None),
        1..PLACE => of(next.checked_sub(u64::from(first))),
        PLACE..BEFORE => {
            let (&second, rest) = bytes.split_first().ok_or(DeltaError::Truncated)?;
            *bytes = rest;
            of(names.number(u16::from(first - PLACE) << 8 | u16::from(second)))
        }
        BEFORE => of(next.checked_sub(take_number(bytes)?)),
        BEHIND => of(next.checked_add(take_number(bytes)?)),
        RAW => Ok(Name::Raw(take_number(bytes)?)),
        _ => Err(DeltaError::Invalid("a value of unknown form")),
    }
}

pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

pub(super) fn take_number(bytes: &mut &[u8]) -> Result<u64, DeltaError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(DeltaError::Truncated)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DeltaError::Invalid("a number that is too long"))
}

fn zigzag(number: u64) -> u64 {
    number << 1 ^ (number.cast_signed() >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> u64 {
    number >> 1 ^ (number & 1).wrapping_neg()
}
