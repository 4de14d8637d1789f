//! Goes through the blocks and records of a file. Taking apart and making again are the same walk, with the two sides of each value
//! exchanged.

use std::collections::HashMap;
use std::rc::Rc;

use super::bits::Width;
use super::forms::Form;
use super::model::{Model, block};
use crate::DeltaError;

/// Nested blocks, at most.
const DEPTH_MAX: usize = 16;
/// Abbreviations of a block, at most, and their operands.
const ABBREVIATIONS_MAX: usize = 256;
const OPERANDS_MAX: u64 = 64;
/// Modules of a file, at most.
const MODULES_MAX: usize = 4;

const END: u64 = 0;
const ENTER: u64 = 1;
const DEFINE: u64 = 2;
const UNABBREVIATED: u64 = 3;
const BLOCKINFO: u64 = 0;
const SET_BLOCK: u64 = 1;

/// Where values come from and go to.
pub(super) trait Side {
    /// Bits of the file so far.
    fn at(&self) -> u64;
    /// Whether the file ends here.
    fn is_at_end(&self) -> bool;
    fn value(&mut self, width: Width, form: Form, model: &Model) -> Result<u64, DeltaError>;
    /// What [`Form::Later`] stood for is at this word.
    fn told(&mut self, word: u64) -> Result<(), DeltaError>;
    fn enter(&mut self) -> Result<(), DeltaError>;
    fn leave(&mut self) -> Result<(), DeltaError>;
    /// What follows goes to, or comes from, the place of this rank, or again where all else does.
    fn turn_to(&mut self, rank: Option<usize>) -> Result<(), DeltaError>;
    fn blob(&mut self, block: u64, model: &Model) -> Result<(), DeltaError>;
}

#[derive(Debug, Clone, Copy)]
enum Operand {
    Literal(u64),
    Scalar(Width),
    Array(Width),
    Blob,
}

type Abbreviations = Vec<Rc<[Operand]>>;

struct Block {
    id: u64,
    width: u32,
    abbreviations: Abbreviations,
}

/// Walks to the end of the file, from behind its magic on.
pub(super) fn walk(side: &mut impl Side, model: &mut Model) -> Result<(), DeltaError> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut known: HashMap<u64, Abbreviations> = HashMap::new();
    let mut described = None;
    let mut modules = 0;
    let mut record = Vec::new();
    loop {
        let (width, id) = match blocks.last() {
            Some(block) => (block.width, Some(block.id)),
            None if side.is_at_end() => return Ok(()),
            None => (2, None),
        };
        let word = side.at() / 32;
        match (side.value(Width::Fixed(width), Form::Plain, model)?, id) {
            (END, Some(id)) => {
                side.leave()?;
                model.leave(id);
                blocks.pop();
            }
            (ENTER, outer) => {
                let inner = side.value(Width::Vbr(8), Form::Plain, model)?;
                let width = side.value(Width::Vbr(4), Form::Plain, model)?;
                let width = u32::try_from(width).ok().filter(|width| (2..=32).contains(width));
                let width = width.ok_or(DeltaError::Invalid("a block of unknown width"))?;
                if blocks.len() >= DEPTH_MAX {
                    return Err(DeltaError::TooLarge("nested blocks"));
                }
                if inner == block::MODULE {
                    modules += 1;
                    if modules > MODULES_MAX {
                        return Err(DeltaError::TooLarge("modules"));
                    }
                    *model = Model::new(std::mem::take(&mut model.strtab), model.index.take());
                }
                if (outer, inner) == (Some(block::MODULE), block::SYMBOLS) {
                    side.told(word)?;
                }
                side.enter()?;
                model.enter(inner, outer, word);
                described = None;
                let abbreviations = known.get(&inner).cloned().unwrap_or_default();
                blocks.push(Block { id: inner, width, abbreviations });
            }
            (DEFINE, Some(id)) => {
                let defined = define(side, model)?;
                let list = match described {
                    Some(described) if id == BLOCKINFO => known.entry(described).or_default(),
                    None if id == BLOCKINFO => {
                        return Err(DeltaError::Invalid("an abbreviation for no block"));
                    }
                    _ => &mut blocks.last_mut().expect("it was looked at").abbreviations,
                };
                if list.len() >= ABBREVIATIONS_MAX {
                    return Err(DeltaError::TooLarge("abbreviations"));
                }
                list.push(defined);
            }
            (UNABBREVIATED, Some(id)) => {
                record.clear();
                record.push(side.value(Width::Vbr(6), Form::Plain, model)?);
                let count = side.value(Width::Vbr(6), Form::Plain, model)?;
                begin(side, model, id, &record)?;
                for _ in 0..count {
                    value(side, model, id, Width::Vbr(6), &mut record)?;
                }
                if (id, record[0]) == (BLOCKINFO, SET_BLOCK) {
                    described = record.get(1).copied();
                }
                side.turn_to(None)?;
                model.record(id, &record);
            }
            (number, Some(id)) => {
                let block = blocks.last().expect("it was looked at");
                let number = usize::try_from(number - UNABBREVIATED - 1).unwrap_or(usize::MAX);
                let abbreviation = block.abbreviations.get(number).cloned();
                let abbreviation = abbreviation.ok_or(DeltaError::Invalid("an abbreviation that is none"))?;
                abbreviated(side, model, id, &abbreviation, &mut record)?;
                side.turn_to(None)?;
                model.record(id, &record);
            }
            (_, None) => return Err(DeltaError::Invalid("something outside of all blocks")),
        }
    }
}

fn value(
    side: &mut impl Side,
    model: &mut Model,
    block: u64,
    width: Width,
    record: &mut Vec<u64>,
) -> Result<(), DeltaError> {
    let form = model.form(block, record);
    let value = side.value(width, form, model)?;
    saw(side, model, block, value, record)
}

fn saw(
    side: &mut impl Side,
    model: &mut Model,
    block: u64,
    value: u64,
    record: &mut Vec<u64>,
) -> Result<(), DeltaError> {
    record.push(value);
    if record.len() == 1 {
        return begin(side, model, block, record);
    }
    model.saw(block, value);
    Ok(())
}

/// The code of a record is known.
fn begin(side: &mut impl Side, model: &mut Model, block: u64, record: &[u64]) -> Result<(), DeltaError> {
    model.begin(block, record[0]);
    model.rank(block, record).map_or(Ok(()), |rank| side.turn_to(Some(rank)))
}

fn abbreviated(
    side: &mut impl Side,
    model: &mut Model,
    block: u64,
    abbreviation: &[Operand],
    record: &mut Vec<u64>,
) -> Result<(), DeltaError> {
    record.clear();
    for operand in abbreviation {
        match *operand {
            Operand::Literal(literal) => saw(side, model, block, literal, record)?,
            Operand::Scalar(width) => value(side, model, block, width, record)?,
            Operand::Array(width) => {
                for _ in 0..side.value(Width::Vbr(6), Form::Plain, model)? {
                    value(side, model, block, width, record)?;
                }
            }
            Operand::Blob => side.blob(block, model)?,
        }
    }
    Ok(())
}

fn define(side: &mut impl Side, model: &Model) -> Result<Rc<[Operand]>, DeltaError> {
    const INVALID: DeltaError = DeltaError::Invalid("an abbreviation of unknown form");
    let count = side.value(Width::Vbr(5), Form::Plain, model)?;
    if count > OPERANDS_MAX {
        return Err(DeltaError::TooLarge("an abbreviation"));
    }
    let mut operands = Vec::new();
    let mut is_array = false;
    for _ in 0..count {
        let operand = if side.value(Width::Fixed(1), Form::Plain, model)? == 1 {
            Operand::Literal(side.value(Width::Vbr(8), Form::Plain, model)?)
        } else {
            let encoding = side.value(Width::Fixed(3), Form::Plain, model)?;
            let width = |side: &mut dyn FnMut() -> Result<u64, DeltaError>| {
                let width = u32::try_from(side()?).ok().filter(|width| *width <= 32);
                width.ok_or(INVALID)
            };
            match encoding {
                1 | 2 => {
                    let width = width(&mut || side.value(Width::Vbr(5), Form::Plain, model))?;
                    match (encoding, width) {
                        // As the format has it.
                        (_, 0) => Operand::Literal(0),
                        (1, width) => Operand::Scalar(Width::Fixed(width)),
                        (_, 1) => return Err(INVALID),
                        (_, width) => Operand::Scalar(Width::Vbr(width)),
                    }
                }
                3 if !is_array => {
                    is_array = true;
                    continue;
                }
                4 => Operand::Scalar(Width::Char6),
                5 => Operand::Blob,
                _ => return Err(INVALID),
            }
        };
        operands.push(match (is_array, operand) {
            (false, operand) => operand,
            (true, Operand::Scalar(width)) => {
                is_array = false;
                Operand::Array(width)
            }
            // Elements that take no bits could be as many as one likes.
            (true, _) => return Err(INVALID),
        });
    }
    if is_array { Err(INVALID) } else { Ok(operands.into()) }
}
