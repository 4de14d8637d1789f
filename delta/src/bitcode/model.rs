//! What the records of a module mean, as far as it tells what their values stand for. Both sides know the same of it at every value; a
//! record that is misunderstood costs bytes, nothing else.

use std::collections::HashMap;

use super::constants::{self, Constant};
use super::forms::Form;
use super::function::Instruction;
use super::index::{Index, Survey};
use super::names::{Names, hash_of, mix};
use super::summary;
use super::types::Types;

/// Kinds of blocks.
pub(super) mod block {
    pub(crate) const MODULE: u64 = 8;
    pub(crate) const ATTRIBUTES: u64 = 9;
    pub(crate) const GROUPS: u64 = 10;
    pub(crate) const CONSTANTS: u64 = 11;
    pub(crate) const FUNCTION: u64 = 12;
    pub(crate) const SYMBOLS: u64 = 14;
    pub(crate) const ATTACHMENTS: u64 = 16;
    pub(crate) const TYPES: u64 = 17;
    pub(crate) const MODULE_NAMES: u64 = 19;
    pub(crate) const SUMMARY: u64 = 20;
    pub(crate) const STRTAB: u64 = 23;
    pub(crate) const SYMTAB: u64 = 25;
}

const GLOBAL: u64 = 7;
const FUNCTION: u64 = 8;
const ALIAS: u64 = 14;
const IFUNC: u64 = 15;
const VST_OFFSET: u64 = 13;
const PRIVATE: u64 = 9;
/// Globals, constants, types and so on that are kept of a module, of each at most: more than of any file that is taken apart.
pub(super) const KEPT_MAX: usize = 1 << 18;
/// Values of their records that are kept, at most.
pub(super) const KEPT_VALUES_MAX: usize = 1 << 20;
/// Arguments of a function that have names, at most.
const ARGUMENTS_MAX: usize = 256;

/// A global as far as its name goes.
struct Global {
    hash: u64,
    /// One more than the number of what a private one begins as.
    begins: u64,
}

/// What is known of a module so far.
pub(super) struct Model {
    /// The names of globals.
    pub(super) strtab: Vec<u8>,
    pub(super) types: Names,
    pub(super) attributes: Names,
    pub(super) groups: Names,
    pub(super) values: Names,
    pub(super) modules: Names,
    /// Number of the next value.
    pub(super) next: u64,
    /// Block of the function.
    pub(super) block: u64,
    pub(super) kinds: Types,
    globals: Vec<Global>,
    constants: Vec<Constant>,
    kept: usize,
    constant_type: u64,
    is_named: bool,
    /// Functions that have a body: number and type.
    bodies: Vec<(u64, u64)>,
    body: usize,
    /// Where the body of a function lies.
    places: HashMap<u64, u64>,
    module_values: usize,
    strtab_next: u64,
    last: u64,
    /// Lengths of names by their offset.
    pub(super) lens: HashMap<u64, u64>,
    instruction: Instruction,
    pub(super) survey: Survey,
    pub(super) index: Option<Index>,
}

impl Model {
    pub(super) fn new(strtab: Vec<u8>, index: Option<Index>) -> Self {
        Self {
            strtab,
            types: Names::new(),
            attributes: Names::new(),
            groups: Names::new(),
            values: Names::new(),
            modules: Names::new(),
            next: 0,
            block: 0,
            kinds: Types::default(),
            globals: Vec::new(),
            constants: Vec::new(),
            kept: 0,
            constant_type: 0,
            is_named: false,
            bodies: Vec::new(),
            body: 0,
            places: HashMap::new(),
            module_values: 0,
            strtab_next: 0,
            last: 0,
            lens: HashMap::new(),
            instruction: Instruction::default(),
            survey: Survey::default(),
            index,
        }
    }

    /// A block begins at this word.
    pub(super) fn enter(&mut self, block: u64, outer: Option<u64>, word: u64) {
        match (outer, block) {
            (Some(block::MODULE), block::FUNCTION) => {
                self.name_globals();
                self.module_values = self.values.len();
                let body = self.bodies.get(self.body).copied();
                self.body += 1;
                self.block = 0;
                if let Some((number, kind)) = body {
                    self.places.insert(number, word);
                    for place in 0..self.kinds.params(kind).len().min(ARGUMENTS_MAX) as u64 {
                        self.values.push(mix(mix(place, 0xa6), 1));
                    }
                }
                self.next = self.values.len() as u64;
            }
            (Some(block::MODULE), block::SUMMARY | block::SYMBOLS) => {
                self.name_globals();
                if let Some(index) = self.index.as_ref().filter(|_| self.values.len() == 0) {
                    index.name(&mut self.values);
                }
            }
            (_, block::ATTACHMENTS) => self.last = 0,
            _ => {}
        }
    }

    pub(super) fn leave(&mut self, block: u64) {
        match block {
            block::FUNCTION => {
                self.values.truncate(self.module_values);
                self.next = self.values.len() as u64;
            }
            block::TYPES => {
                if let Some(names) = self.kinds.named() {
                    self.types = names;
                }
            }
            block::CONSTANTS => self.next = self.values.len() as u64,
            _ => {}
        }
    }

    /// A record begins.
    pub(super) fn begin(&mut self, block: u64, code: u64) {
        if block == block::FUNCTION {
            self.instruction = Instruction::new(code);
        }
    }

    /// What the next value is of a record that has these, the first of which is its code.
    pub(super) fn form(&self, block: u64, record: &[u64]) -> Form {
        let at = record.len();
        let Some(&code) = record.first() else { return Form::Plain };
        match block {
            block::FUNCTION => self.instruction.form(record, self),
            block::CONSTANTS => constants::form(code, at),
            block::TYPES => Types::form(code, at),
            block::MODULE => match (code, at) {
                (GLOBAL | FUNCTION | ALIAS | IFUNC, 1) => Form::Near(self.strtab_next),
                (GLOBAL | FUNCTION | ALIAS | IFUNC, 3) => Form::Type,
                (GLOBAL, 5) => Form::ValueOrNone,
                (FUNCTION, 7) => Form::Attributes,
                (ALIAS | IFUNC, 5) => Form::Value,
                (VST_OFFSET, 1) => Form::Later,
                _ => Form::Plain,
            },
            block::ATTRIBUTES if code == 2 => Form::Group,
            block::GROUPS if at == 1 => Form::Near(self.groups.len() as u64 + 1),
            block::MODULE_NAMES if code == 1 && at == 1 => Form::Near(self.modules.len() as u64),
            block::SUMMARY => summary::form(record, self.values.len() as u64, self.index.as_ref()),
            block::SYMBOLS => match (code, at) {
                (3, 1) => Form::Value,
                (3, 2) => Form::Near(self.places.get(&record[1]).copied().unwrap_or(0)),
                (5, 1) => Form::Near(self.values.len() as u64),
                (5, 2) => Form::Word,
                _ => Form::Plain,
            },
            block::ATTACHMENTS if at == 1 => Form::Near(self.last),
            _ => Form::Plain,
        }
    }

    /// Where the rest of a record goes, if that is not where the others are.
    pub(super) fn rank(&self, block: u64, record: &[u64]) -> Option<usize> {
        match (block, record) {
            (block::SUMMARY, [4..=6]) => self.index.as_ref()?.rank(),
            _ => None,
        }
    }

    /// The value that the form was for.
    pub(super) fn saw(&mut self, block: u64, value: u64) {
        if block == block::FUNCTION {
            let mut instruction = std::mem::take(&mut self.instruction);
            instruction.saw(value, self);
            self.instruction = instruction;
        }
    }

    /// A record, whole.
    pub(super) fn record(&mut self, block: u64, record: &[u64]) {
        let Some((&code, values)) = record.split_first() else { return };
        match block {
            block::FUNCTION => {
                if self.instruction.defines(record, self) {
                    self.next += 1;
                }
                if Instruction::ends_block(code) {
                    self.block += 1;
                }
            }
            block::CONSTANTS => self.constant(code, values),
            block::TYPES => {
                if let Some(hash) = self.kinds.record(code, values, &self.types) {
                    self.types.push(hash);
                }
            }
            block::MODULE => self.module(code, values),
            block::ATTRIBUTES => {
                let hash =
                    values.iter().fold(1, |hash, group| mix(hash, self.groups.hash(group.wrapping_sub(1))));
                self.attributes.push(hash);
            }
            block::GROUPS => {
                let hash = values.iter().skip(1).fold(2, |hash, value| mix(hash, *value));
                self.groups.push(hash);
            }
            block::MODULE_NAMES if code == 1 => {
                let hash = values.iter().skip(1).fold(3, |hash, value| mix(hash, *value));
                self.modules.push(hash);
            }
            block::SUMMARY => {
                if let Some(index) = &mut self.index {
                    index.record(code);
                } else {
                    self.survey.record(code, values, |module| self.modules.hash(module));
                    if code == 16 {
                        self.external(values);
                    }
                }
            }
            block::SYMBOLS if code == 5 => self.external(values),
            block::ATTACHMENTS => self.last = values.first().copied().unwrap_or(0),
            _ => {}
        }
    }

    /// A value that is known by a hash of its name.
    fn external(&mut self, values: &[u64]) {
        if let &[number, name] = values
            && number == self.values.len() as u64
        {
            self.values.push(mix(name, 5));
            self.next = self.values.len() as u64;
        }
    }

    fn constant(&mut self, code: u64, values: &[u64]) {
        if code == 1 {
            self.constant_type = values.first().copied().unwrap_or(0);
            return;
        }
        let kind = self.types.hash(self.constant_type);
        let hash = constants::hash((code, kind, values), &self.types, |number| self.values.hash(number));
        self.values.push(hash);
        self.next = self.values.len() as u64;
        if !self.is_named && self.constants.len() < KEPT_MAX && self.kept + values.len() <= KEPT_VALUES_MAX {
            self.kept += values.len();
            self.constants.push(Constant { code, kind, values: values.to_vec() });
        }
    }

    fn module(&mut self, code: u64, values: &[u64]) {
        if !matches!(code, GLOBAL | FUNCTION | ALIAS | IFUNC) {
            return;
        }
        let value = |at: usize| values.get(at).copied().unwrap_or(0);
        let (offset, len) = (value(0), value(1));
        self.strtab_next = offset.wrapping_add(len);
        if self.lens.len() < KEPT_MAX {
            self.lens.insert(offset, len);
        }
        let range = usize::try_from(offset).ok().zip(usize::try_from(self.strtab_next).ok());
        let name = range.and_then(|(from, to)| self.strtab.get(from..to)).unwrap_or_default();
        let hash = hash_of(without_number(name));
        let number = self.values.len() as u64;
        let is_private = code == GLOBAL && value(5) == PRIVATE;
        let hash = if is_private { mix(self.types.hash(value(2)), 9) } else { hash };
        if self.globals.len() < KEPT_MAX {
            self.globals.push(Global { hash, begins: if is_private { value(4) } else { 0 } });
        }
        self.values.push(hash);
        self.next = self.values.len() as u64;
        if code == FUNCTION && value(4) == 0 && self.bodies.len() < KEPT_MAX {
            self.bodies.push((number, value(2)));
        }
    }

    /// Names globals and constants anew, once all of them are known.
    fn name_globals(&mut self) {
        const ROUNDS: usize = 3;
        if self.is_named {
            return;
        }
        self.is_named = true;
        let first = self.globals.len();
        let mut hashes: Vec<u64> = self.globals.iter().map(|global| global.hash).collect();
        hashes.resize(first + self.constants.len(), 0);
        for _ in 0..ROUNDS {
            let before = hashes.clone();
            let of = |number: u64| {
                usize::try_from(number).ok().and_then(|at| before.get(at)).copied().unwrap_or(0)
            };
            for (place, constant) in self.constants.iter().enumerate() {
                let parts = (constant.code, constant.kind, &constant.values[..]);
                hashes[first + place] = constants::hash(parts, &self.types, of);
            }
            for (place, global) in self.globals.iter().enumerate() {
                if let Some(begins) = global.begins.checked_sub(1) {
                    hashes[place] = mix(global.hash, of(begins));
                }
            }
        }
        if hashes.len() == self.values.len() {
            self.values.truncate(0);
            hashes.into_iter().for_each(|hash| self.values.push(hash));
        }
    }
}

/// A name without the number that tells it from others of its kind.
pub(super) fn without_number(name: &[u8]) -> &[u8] {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    match name[..name.len() - digits] {
        [ref rest @ .., b'.'] if digits > 0 => rest,
        _ => name,
    }
}
