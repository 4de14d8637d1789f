//! Instructions.

use super::forms::Form;
use super::model::Model;

/// What is known of the instruction whose values come.
#[derive(Debug, Default)]
pub(super) struct Instruction {
    code: u64,
    /// Values so far that are not the type of another.
    step: usize,
    /// Whether the type of the last value follows.
    is_typed: bool,
    /// Type of the function that is called, and where its operands begin.
    called: Option<(u64, usize)>,
}

/// What the operands of an instruction are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Plain,
    Type,
    /// A value, whose type follows where it is not known yet.
    Typed,
    Back,
    SignedBack,
    Value,
    Block,
    Attributes,
}

const BINARY: u64 = 2;
const CAST: u64 = 3;
const INVOKE: u64 = 5;
const RETURN: u64 = 10;
const BRANCH: u64 = 11;
const SWITCH: u64 = 12;
const UNREACHABLE: u64 = 15;
const PHI: u64 = 16;
const ALLOCA: u64 = 19;
const LOAD: u64 = 20;
const STORE: u64 = 44;
const STORE_ATOMIC: u64 = 45;
const CALL: u64 = 34;
const CALL_EXPLICIT: u64 = 15;
const INVOKE_EXPLICIT: u64 = 13;
const CALL_FLAGS: u64 = 17;

impl Instruction {
    pub(super) fn new(code: u64) -> Self {
        Self { code, ..Self::default() }
    }

    fn operand(&self, model: &Model) -> Operand {
        use Operand::{Attributes, Back, Block, Plain, SignedBack, Type, Typed, Value};
        let step = self.step;
        let nth = |operands: &[Operand], rest: Operand| operands.get(step).copied().unwrap_or(rest);
        match self.code {
            BINARY => nth(&[Typed, Back], Plain),
            CAST => nth(&[Typed, Type], Plain),
            29 => nth(&[Typed, Back, Typed], Plain),
            6 => nth(&[Typed, Typed], Plain),
            7 | 8 => nth(&[Typed, Back, Typed], Plain),
            9 | 28 => nth(&[Typed, Back], Plain),
            RETURN | 56 | 58 | 26 | 39 => nth(&[Typed], Plain),
            27 => nth(&[Typed, Typed], Plain),
            BRANCH => nth(&[Block, Block, Back], Plain),
            SWITCH => match step {
                0 => Type,
                1 => Back,
                2 => Block,
                _ if step.is_multiple_of(2) => Block,
                _ => Value,
            },
            PHI => match step {
                0 => Type,
                _ if step.is_multiple_of(2) => Block,
                _ => SignedBack,
            },
            ALLOCA => nth(&[Type, Type, Value], Plain),
            LOAD | 41 => nth(&[Typed, Type], Plain),
            STORE | STORE_ATOMIC => nth(&[Typed, Typed], Plain),
            43 => nth(&[Plain, Type], Typed),
            46 => nth(&[Typed, Typed, Back], Plain),
            59 => nth(&[Typed, Plain, Typed], Plain),
            23 => nth(&[Type, Back, Type], Plain),
            CALL | INVOKE => match self.called {
                None if step == 0 => Attributes,
                None if self.code == INVOKE && (2..4).contains(&step) => Block,
                None => Plain,
                // The function's type comes just before the function.
                Some((_, from)) if step < from => {
                    if step + 1 == from {
                        Type
                    } else if self.code == INVOKE {
                        Block
                    } else {
                        Plain
                    }
                }
                Some((_, from)) if step == from => Typed,
                Some((kind, from)) if step - from <= model.kinds.params(kind).len() => Back,
                Some(_) => Typed,
            },
            55 => nth(&[Plain], Typed),
            _ => Plain,
        }
    }

    pub(super) fn form(&self, _record: &[u64], model: &Model) -> Form {
        if self.is_typed {
            return Form::Type;
        }
        match self.operand(model) {
            Operand::Plain => Form::Plain,
            Operand::Type => Form::Type,
            Operand::Typed | Operand::Back => Form::Back,
            Operand::SignedBack => Form::SignedBack,
            Operand::Value => Form::Value,
            Operand::Block => Form::Block,
            Operand::Attributes => Form::Attributes,
        }
    }

    pub(super) fn saw(&mut self, value: u64, model: &Model) {
        if self.is_typed {
            self.is_typed = false;
            self.step += 1;
            return;
        }
        if self.operand(model) == Operand::Typed {
            // Numbers of values that are not there yet wrap around.
            let back = value & 0xffff_ffff;
            if back == 0 || back > model.next {
                self.is_typed = true;
                return;
            }
        }
        match (self.code, self.step) {
            (CALL, 1) if value >> CALL_EXPLICIT & 1 != 0 => {
                self.called = Some((u64::MAX, if value >> CALL_FLAGS & 1 != 0 { 4 } else { 3 }));
            }
            (INVOKE, 1) if value >> INVOKE_EXPLICIT & 1 != 0 => self.called = Some((u64::MAX, 5)),
            (CALL | INVOKE, step) => {
                if let Some((kind, from)) = &mut self.called
                    && step + 1 == *from
                {
                    *kind = value;
                }
            }
            _ => {}
        }
        self.step += 1;
    }

    /// Whether there is a value of it.
    pub(super) fn defines(&self, record: &[u64], model: &Model) -> bool {
        match record[0] {
            CALL | INVOKE => self.called.is_some_and(|(kind, _)| !model.kinds.gives_nothing(kind)),
            // Blocks, ends of blocks, stores, fences, lines, bundles.
            1 | RETURN | BRANCH | SWITCH | UNREACHABLE | STORE | STORE_ATOMIC | 31 | 33 | 35 | 36 | 39
            | 51 | 49 | 55 | 60 => false,
            _ => true,
        }
    }

    /// Whether a block of the function ends with it.
    pub(super) fn ends_block(code: u64) -> bool {
        matches!(code, INVOKE | RETURN | BRANCH | SWITCH | UNREACHABLE | 31 | 39 | 49 | 51 | 52 | 57)
    }
}
