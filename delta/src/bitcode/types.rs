//! Types of a module.

use super::forms::Form;
use super::model::{KEPT_MAX, KEPT_VALUES_MAX, without_number};
use super::names::{Names, hash_of, mix};

const COUNT: u64 = 1;
const VOID: u64 = 2;
const OPAQUE: u64 = 6;
const POINTER: u64 = 8;
const ARRAY: u64 = 11;
const VECTOR: u64 = 12;
const STRUCT: u64 = 18;
const STRUCT_NAME: u64 = 19;
const NAMED_STRUCT: u64 = 20;
const FUNCTION: u64 = 21;

/// A type's record.
#[derive(Debug)]
struct Type {
    code: u64,
    values: Vec<u64>,
    /// Of its name; 0 where it has none.
    name: u64,
    /// Whether the name tells it from all others.
    is_named: bool,
}

/// Types of a module.
#[derive(Debug, Default)]
pub(super) struct Types {
    types: Vec<Type>,
    name: Option<(u64, bool)>,
    kept: usize,
    is_named: bool,
}

impl Types {
    pub(super) fn form(code: u64, at: usize) -> Form {
        let is_type = match code {
            POINTER => at == 1,
            ARRAY | VECTOR => at == 2,
            STRUCT | NAMED_STRUCT | FUNCTION => at >= 2,
            _ => false,
        };
        if is_type { Form::Type } else { Form::Plain }
    }

    /// The hash of a type, if that is what the record is.
    pub(super) fn record(&mut self, code: u64, values: &[u64], names: &Names) -> Option<u64> {
        if code == COUNT {
            return None;
        }
        if code == STRUCT_NAME {
            let name: Vec<u8> = values.iter().map(|char| (char & 0xff) as u8).collect();
            let short = without_number(&name);
            self.name = Some((hash_of(short), short.len() == name.len()));
            return None;
        }
        let named = if matches!(code, OPAQUE | NAMED_STRUCT) { self.name.take() } else { None };
        let (name, is_named) = named.unwrap_or((0, false));
        let hash = hash((code, name, is_named), values, |number| names.hash(number));
        if self.types.len() < KEPT_MAX && self.kept + values.len() <= KEPT_VALUES_MAX {
            self.kept += values.len();
            self.types.push(Type { code, values: values.to_vec(), name, is_named });
        }
        Some(hash)
    }

    /// Names of all of them, the first time that all are known.
    pub(super) fn named(&mut self) -> Option<Names> {
        const ROUNDS: usize = 3;
        if std::mem::replace(&mut self.is_named, true) {
            return None;
        }
        let mut hashes = vec![0; self.types.len()];
        for _ in 0..ROUNDS {
            for place in 0..hashes.len() {
                let of = |number: u64| {
                    usize::try_from(number).ok().and_then(|at| hashes.get(at)).copied().unwrap_or(0)
                };
                let Type { code, values, name, is_named } = &self.types[place];
                hashes[place] = hash((*code, *name, *is_named), values, of);
            }
        }
        let mut names = Names::new();
        hashes.into_iter().for_each(|hash| names.push(hash));
        Some(names)
    }

    fn function(&self, kind: u64) -> Option<&[u64]> {
        let kind = usize::try_from(kind).ok().and_then(|kind| self.types.get(kind))?;
        if kind.code == FUNCTION { kind.values.get(1..) } else { None }
    }

    /// Types of what a function of this type takes.
    pub(super) fn params(&self, kind: u64) -> &[u64] {
        self.function(kind).and_then(|values| values.get(1..)).unwrap_or_default()
    }

    /// Whether a function of this type gives nothing.
    pub(super) fn gives_nothing(&self, kind: u64) -> bool {
        let given = self.function(kind).and_then(|values| values.first());
        let given =
            given.and_then(|given| usize::try_from(*given).ok()).and_then(|given| self.types.get(given));
        given.is_none_or(|given| given.code == VOID)
    }
}

/// Hash of what a type is, of its code, its name and whether that says all; `of` has hashes of types.
fn hash((code, name, is_named): (u64, u64, bool), values: &[u64], of: impl Fn(u64) -> u64) -> u64 {
    let hash = mix(code, name);
    if is_named {
        return hash;
    }
    (1..).zip(values).fold(hash, |hash, (at, value)| {
        mix(hash, if Types::form(code, at) == Form::Type { of(*value) } else { *value })
    })
}
