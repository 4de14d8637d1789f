//! Writes that nobody asked for, so that there is something to see: the same for the same seed and round.

use crate::batch::{VALUE_LEN_MAX, Write};

/// One in so many writes deletes.
const DELETES: u64 = 8;

/// What is written.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// What the writes are chosen by; producers of one network have different ones
    #[arg(long, env = "KV_SEED", value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Different keys that are written
    #[arg(long, env = "KV_KEYS", value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
    /// Bytes of a value
    #[arg(long, env = "KV_VALUE_BYTES", value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=VALUE_LEN_MAX as i64))]
    pub(crate) value_bytes: u32,
}

impl Load {
    /// So many writes of a round.
    pub(crate) fn writes(&self, round: u64, count: u32) -> Vec<Write> {
        (0..count).map(|number| self.write(round, number)).collect()
    }

    /// Entry `number` of a state to begin with.
    pub(crate) fn entry(&self, number: u64) -> Write {
        Write::Put { key: key(number), value: self.bytes(0, number) }
    }

    fn write(&self, round: u64, number: u32) -> Write {
        let choice = self.stream(round, number.into());
        let mut numbers = [0; 16];
        choice.finalize_xof().fill(&mut numbers);
        let (which, what) = (u128::from_le_bytes(numbers), u64::from(numbers[15]));
        let key = key(u64::try_from(which % u128::from(self.keys)).expect("it is less than a u64"));
        if what % DELETES == 0 {
            Write::Delete { key }
        } else {
            Write::Put { key, value: self.bytes(round, number.into()) }
        }
    }

    fn bytes(&self, round: u64, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.value_bytes as usize];
        self.stream(round, number).update(b"value").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn stream(&self, round: u64, number: u64) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        for part in [self.seed, round, number] {
            hasher.update(&part.to_le_bytes());
        }
        hasher
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number:08}").into_bytes()
}
