//! How far what lay at an old address has moved: derived from the runs that both sides know, and from fixes.

use super::space::Space;

/// A run of the new file that is like one of the old file, but for operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) new: u32,
    pub(super) old: u32,
    pub(super) len: u32,
}

impl Run {
    pub(super) fn new_end(&self) -> u64 {
        u64::from(self.new) + u64::from(self.len)
    }

    pub(super) fn old_end(&self) -> u64 {
        u64::from(self.old) + u64::from(self.len)
    }

    /// The part of the old file that a part of the run's new range is copied from.
    pub(super) fn old_of(&self, new: &std::ops::Range<u64>) -> std::ops::Range<u64> {
        let of = |at: u64| at.saturating_sub(u64::from(self.new)) + u64::from(self.old);
        of(new.start)..of(new.end)
    }
}

/// Old addresses from `first` to `last`, both included, that moved by `shift` (wrapping).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) shift: u64,
}

/// Rows ascending by `first`, disjoint, with an index so that a look-up touches few of them.
#[derive(Debug, Clone, Default)]
struct Rows {
    rows: Vec<Shift>,
    /// For each page of `1 << bits` addresses from the first row on: the first row that ends in it or behind it.
    pages: Vec<u32>,
    bits: u32,
}

impl Rows {
    fn new(rows: Vec<Shift>) -> Self {
        let Some((first, last)) = rows.first().zip(rows.last()) else { return Self::default() };
        let (low, extent) = (first.first, last.last - first.first);
        let mut bits = 8;
        while extent >> bits > 4 * rows.len() as u64 {
            bits += 1;
        }
        let mut pages = Vec::new();
        let mut row = 0;
        for page in 0..=extent >> bits {
            let start = low + (page << bits);
            while rows[row].last < start {
                row += 1;
            }
            pages.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        Self { rows, pages, bits }
    }

    /// The first row that does not end before `addr`.
    fn at(&self, addr: u64) -> usize {
        let Some(first) = self.rows.first() else { return 0 };
        if addr <= first.last {
            return 0;
        }
        let page = usize::try_from((addr - first.first) >> self.bits).unwrap_or(usize::MAX);
        let Some(first) = self.pages.get(page).map(|row| *row as usize) else { return self.rows.len() };
        let last = self.pages.get(page + 1).map_or(self.rows.len(), |row| *row as usize + 1);
        let near = self.rows.get(first..last).unwrap_or_default();
        first + near.partition_point(|shift| shift.last < addr)
    }
}

/// Where every old address went.
#[derive(Debug, Clone, Default)]
pub(super) struct Shifts {
    aligned: Rows,
    fixed: Rows,
}

impl Shifts {
    /// Of the runs: see `aligned`. `fixes` ascend and are disjoint.
    pub(super) fn new(runs: &[Run], old: &Space, new: &Space, fixes: &[Shift]) -> Self {
        Self { aligned: Rows::new(aligned(runs, old, new)), fixed: Rows::new(fixes.to_vec()) }
    }

    pub(super) fn set_fixes(&mut self, fixes: &[Shift]) {
        self.fixed = Rows::new(fixes.to_vec());
    }

    /// How far an address moved. What lies between two rows moved as the nearer one did.
    pub(super) fn of(&self, addr: u64) -> u64 {
        let row = self.fixed.at(addr);
        if let Some(fix) = self.fixed.rows.get(row).filter(|fix| fix.first <= addr) {
            return fix.shift;
        }
        let row = self.aligned.at(addr);
        let rows = &self.aligned.rows;
        let before = row.checked_sub(1).map(|row| rows[row]);
        match (before, rows.get(row)) {
            (_, Some(next)) if next.first <= addr => next.shift,
            (Some(before), Some(next)) => {
                if addr - before.last <= next.first - addr {
                    before.shift
                } else {
                    next.shift
                }
            }
            (Some(only), None) | (None, Some(&only)) => only.shift,
            (None, None) => 0,
        }
    }
}

/// The runs as rows: by old address, the longer first. Where one reaches into the row before it, the longer of both keeps
/// what they share; what lies wholly within the row before it is left out.
fn aligned(runs: &[Run], old: &Space, new: &Space) -> Vec<Shift> {
    let mut moved: Vec<(u64, u32, u64)> = Vec::with_capacity(runs.len());
    for run in runs {
        if let (Some(from), Some(to)) = (old.addr_of(u64::from(run.old)), new.addr_of(u64::from(run.new))) {
            moved.push((from, run.len, to.wrapping_sub(from)));
        }
    }
    moved.sort_by_key(|(first, len, _)| (*first, std::cmp::Reverse(*len)));
    let mut rows: Vec<Shift> = Vec::with_capacity(moved.len());
    for (start, len, shift) in moved {
        let Some(last) = start.checked_add(u64::from(len).saturating_sub(1)) else { continue };
        let mut first = start;
        if let Some(before) = rows.last_mut().filter(|before| before.last >= first) {
            if last <= before.last {
                continue;
            }
            if last - first > before.last - before.first {
                if before.first == first {
                    rows.pop();
                } else {
                    before.last = first - 1;
                }
            } else {
                first = before.last + 1;
            }
        }
        rows.push(Shift { first, last, shift });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::space::Segment;
    use super::*;

    fn space(addr: u64) -> Space {
        Space::new(vec![Segment { at: 0, addr, len: 1 << 20, memory: 1 << 20 }])
    }

    #[test]
    fn addresses_go_with_their_run_or_the_nearest() {
        // 100..200 moved by 5000, the longer 150..400 by 6000 and takes over, 160..170 is covered, 1000..1010 by 5005.
        let runs = [(100, 100, 0), (150, 250, 1000), (160, 10, 7000), (1000, 10, 5)]
            .map(|(old, len, shift)| Run { new: old + shift, old, len });
        let shifts = Shifts::new(&runs, &space(0x1000), &space(0x1000 + 5000), &[]);
        let of = |at: u64| shifts.of(0x1000 + at);
        assert_eq!([of(0), of(100), of(149), of(150), of(399)], [5000, 5000, 5000, 6000, 6000]);
        assert_eq!([of(699), of(700), of(1000), of(1009), of(9999)], [6000, 5005, 5005, 5005, 5005]);
        assert_eq!([shifts.of(0), shifts.of(u64::MAX)], [5000, 5005]);
        assert_eq!(Shifts::default().of(77), 0);
    }

    #[test]
    fn fixes_go_before_runs() {
        let runs = [Run { new: 0, old: 0, len: 1000 }];
        let fixes = [(10, 10, 1), (20, 29, 2), (u64::MAX, u64::MAX, 3)];
        let fixes = fixes.map(|(first, last, shift)| Shift { first, last, shift });
        let shifts = Shifts::new(&runs, &space(0), &space(0), &fixes);
        let all = [9, 10, 11, 19, 20, 25, 29, 30, u64::MAX - 1, u64::MAX].map(|addr| shifts.of(addr));
        assert_eq!(all, [0, 1, 0, 0, 2, 2, 2, 0, 0, 3]);
    }

    #[test]
    fn look_ups_agree_with_a_search() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for rows in 1..60 {
            let mut fixes: Vec<Shift> = Vec::new();
            let mut first = random(1000);
            for shift in 1..=rows {
                let last = first + random(if shift % 7 == 0 { 1 << 20 } else { 50 });
                fixes.push(Shift { first, last, shift });
                first = last + 1 + random(if shift % 5 == 0 { 1 << 30 } else { 20 });
            }
            let shifts = Shifts::new(&[], &space(0), &space(0), &fixes);
            for fix in &fixes {
                for addr in [
                    fix.first.saturating_sub(1),
                    fix.first,
                    fix.last,
                    fix.last + 1,
                    fix.last + random(1 << 31),
                ] {
                    let found = fixes.iter().find(|fix| (fix.first..=fix.last).contains(&addr));
                    assert_eq!(shifts.of(addr), found.map_or(0, |fix| fix.shift), "{addr} in {fixes:?}");
                }
            }
        }
    }
}
