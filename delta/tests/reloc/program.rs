//! Small programs, linked: functions that call each other and take addresses, with the tables that a linker adds.

#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the programs are small")]

/// A function: its name and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: u32,
    pub(crate) steps: Vec<Step>,
}

/// What an instruction or two do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Puts a number into a register.
    Number(u16),
    /// Calls the function of this place in the program (modulo their number).
    Call(u16),
    /// Takes the address of a word of the data (modulo their number).
    Data(u16),
    /// Takes the address of the jump table.
    Table,
}

/// What there is to link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) functions: Vec<Function>,
    /// Words of data: each the address of a function.
    pub(crate) words: Vec<u16>,
    pub(crate) arm: bool,
    /// At fixed addresses.
    pub(crate) fixed: bool,
    pub(crate) sections: bool,
    /// Bytes in front of the code, which move everything.
    pub(crate) pad: usize,
}

/// A program of so many functions, the same each time.
pub(crate) fn sample(functions: u32, arm: bool) -> Program {
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as u16
    };
    let mut made = Vec::new();
    for name in 0..functions {
        let steps = (0..10 + random() % 30).map(|_| match random() % 8 {
            0..4 => Step::Number(random()),
            4..6 => Step::Call(random()),
            6 => Step::Data(random()),
            _ => Step::Table,
        });
        made.push(Function { name, steps: steps.collect() });
    }
    let words = (0..300).map(|_| random()).collect();
    Program { functions: made, words, arm, fixed: false, sections: true, pad: 0 }
}

const BASE_FIXED: u64 = 0x40_0000;
const TEXT: usize = 0x400;

struct Out {
    file: Vec<u8>,
    sections: Vec<(&'static str, u32, u64, usize, usize)>,
    base: u64,
}

impl Out {
    fn section(&mut self, name: &'static str, kind: u32, flags: u64, bytes: &[u8]) -> usize {
        self.file.resize(self.file.len().next_multiple_of(16), 0);
        let at = self.file.len();
        self.file.extend_from_slice(bytes);
        self.sections.push((name, kind, flags, at, bytes.len()));
        at
    }
}

impl Program {
    /// The file.
    pub(crate) fn link(&self) -> Vec<u8> {
        let base = if self.fixed { BASE_FIXED } else { 0 };
        let mut out = Out { file: vec![0; TEXT + self.pad.next_multiple_of(16)], sections: Vec::new(), base };
        let text_at = out.file.len();
        let mut starts = Vec::new();
        let mut len = 0;
        for function in &self.functions {
            starts.push(text_at + len);
            len += self.code(function, 0, &[], 0, 0).len().next_multiple_of(16);
        }
        let table_at = text_at + len;
        let entries = self.functions.len().min(6);
        let words_at = (table_at + 4 * entries).next_multiple_of(16);
        let mut text = Vec::new();
        for (function, start) in self.functions.iter().zip(&starts) {
            text.resize(start - text_at, 0x90);
            text.extend(self.code(function, *start, &starts, table_at, words_at));
        }
        text.resize(len, 0x90);
        out.section(".text", 1, 6, &text);
        let table: Vec<u8> = starts[..entries].iter().flat_map(|s| distance(*s, table_at)).collect();
        out.section(".rodata", 1, 2, &table);
        let target = |word: u16| starts.get(usize::from(word) % starts.len().max(1)).copied().unwrap_or(0);
        let words = self.words.iter().flat_map(|word| (base + target(*word) as u64).to_le_bytes());
        out.section(".data", 1, 3, &words.collect::<Vec<u8>>());
        self.unwind(&mut out, &starts);
        let mut rela = Vec::new();
        for (number, word) in self.words.iter().enumerate() {
            for value in [base + (words_at + 8 * number) as u64, 8, base + target(*word) as u64] {
                rela.extend_from_slice(&u64::to_le_bytes(value));
            }
        }
        out.section(".rela.dyn", 4, 2, &rela);
        let mut symbols = vec![0; 24];
        for (function, start) in self.functions.iter().zip(&starts) {
            symbols.extend_from_slice(&function.name.to_le_bytes());
            symbols.extend_from_slice(&[0x12, 0, 1, 0]);
            symbols.extend_from_slice(&(base + *start as u64).to_le_bytes());
            symbols.extend_from_slice(&(16 * function.steps.len() as u64).to_le_bytes());
        }
        out.section(".symtab", 2, 0, &symbols);
        self.headers(out, text_at, len)
    }

    fn unwind(&self, out: &mut Out, starts: &[usize]) {
        let at = out.file.len().next_multiple_of(16);
        let mut frame =
            vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 0x10, 1, 0x1b, 0xc, 7, 8, 0x90, 1, 0, 0];
        let mut rows = Vec::new();
        for (function, start) in self.functions.iter().zip(starts) {
            let here = at + frame.len();
            rows.push((*start, here));
            frame.extend_from_slice(&20u32.to_le_bytes());
            frame.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
            frame.extend(distance(*start, here + 8));
            frame.extend_from_slice(&u32::try_from(16 * function.steps.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&[0, 0x41, 0xe, 0x10, 0x86, 2, 0, 0]);
        }
        frame.extend_from_slice(&[0; 4]);
        out.section(".eh_frame", 1, 2, &frame);
        let header = out.file.len().next_multiple_of(16);
        let mut search = vec![1, 0x1b, 3, 0x3b];
        search.extend(distance(at, header + 4));
        search.extend_from_slice(&u32::try_from(rows.len()).unwrap().to_le_bytes());
        rows.iter().for_each(|(start, frame)| {
            search.extend(distance(*start, header));
            search.extend(distance(*frame, header));
        });
        out.section(".eh_frame_hdr", 1, 2, &search);
    }

    fn code(
        &self,
        function: &Function,
        start: usize,
        starts: &[usize],
        table: usize,
        words: usize,
    ) -> Vec<u8> {
        let mut code = Vec::new();
        for step in &function.steps {
            let here = start + code.len();
            let call = |to: u16| starts.get(usize::from(to) % starts.len().max(1)).copied().unwrap_or(0);
            let data = |word: u16| words + 8 * (usize::from(word) % self.words.len().max(1));
            match (step, self.arm) {
                (Step::Number(number), false) => {
                    code.push(0xb8);
                    code.extend_from_slice(
                        &(u32::from(*number).wrapping_mul(0x9e37_79b9) >> 8).to_le_bytes(),
                    );
                }
                (Step::Call(to), false) => {
                    code.push(0xe8);
                    code.extend(distance(call(*to), here + 5));
                }
                (Step::Data(_) | Step::Table, false) => {
                    let target = if let Step::Data(word) = step { data(*word) } else { table };
                    code.extend_from_slice(&[0x48, 0x8d, 5]);
                    code.extend(distance(target, here + 7));
                }
                (Step::Number(number), true) => {
                    code.extend((0x5280_0000 | u32::from(*number) << 5).to_le_bytes())
                }
                (Step::Call(to), true) => {
                    let distance = (call(*to) as i64 - here as i64) >> 2;
                    code.extend((0x9400_0000 | distance as u32 & 0x3ff_ffff).to_le_bytes());
                }
                (Step::Data(_) | Step::Table, true) => {
                    let target = if let Step::Data(word) = step { data(*word) } else { table };
                    let pages = ((target >> 12) as i64 - (here >> 12) as i64) as u32;
                    let pages = (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
                    code.extend((0x9000_0000 | pages).to_le_bytes());
                    code.extend((0x9100_0000 | (target as u32 & 0xfff) << 10).to_le_bytes());
                }
            }
        }
        if self.arm {
            code.extend(0xd65f_03c0_u32.to_le_bytes());
        } else {
            code.push(0xc3);
        }
        code
    }

    fn headers(&self, mut out: Out, text: usize, text_len: usize) -> Vec<u8> {
        let loaded = out.sections.last().map_or(0, |last| last.3);
        let mut names = vec![0];
        let mut rows = vec![0; 64];
        if self.sections {
            out.section(".shstrtab", 3, 0, &[0; 128]);
            for (name, kind, flags, at, len) in &out.sections {
                let mut row = vec![0; 64];
                row[..4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
                names.extend_from_slice(name.as_bytes());
                names.push(0);
                row[4..8].copy_from_slice(&kind.to_le_bytes());
                row[8..16].copy_from_slice(&flags.to_le_bytes());
                row[16..24].copy_from_slice(&(out.base + *at as u64).to_le_bytes());
                row[24..32].copy_from_slice(&(*at as u64).to_le_bytes());
                row[32..40].copy_from_slice(&(*len as u64).to_le_bytes());
                rows.extend(row);
            }
            let at = out.sections.last().unwrap().3;
            out.file[at..at + names.len()].copy_from_slice(&names);
        }
        let table = out.file.len().next_multiple_of(8);
        if self.sections {
            out.file.resize(table, 0);
            out.file.extend_from_slice(&rows);
        }
        let file = &mut out.file;
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, width: usize, value: u64| {
            file[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        };
        put(16, 2, if self.fixed { 2 } else { 3 });
        put(18, 2, if self.arm { 183 } else { 62 });
        put(32, 8, 64);
        put(54, 2, 56);
        put(56, 2, 2);
        if self.sections {
            put(40, 8, table as u64);
            put(58, 2, 64);
            put(60, 2, rows.len() as u64 / 64);
            put(62, 2, rows.len() as u64 / 64 - 1);
        }
        let rest = text + text_len;
        for (row, flags, from, to) in [(64, 5, 0, rest), (120, 6, rest, loaded)] {
            put(row, 4, 1);
            put(row + 4, 4, flags);
            put(row + 8, 8, from as u64);
            put(row + 16, 8, out.base + from as u64);
            put(row + 24, 8, out.base + from as u64);
            put(row + 32, 8, (to - from) as u64);
            put(row + 40, 8, (to - from) as u64);
        }
        out.file
    }
}

fn distance(to: usize, from: usize) -> [u8; 4] {
    i32::try_from(to as i64 - from as i64).unwrap().to_le_bytes()
}
