//! What an event of this network says: writes to make, in order.
//!
//! ```text
//! version  u8   1
//! count    u32  writes that follow, at most WRITES_MAX
//! write         tag u8 (1 put, 2 delete) | key length u16, 1 to 1,024 | key
//!               and for a put: value length u32, at most 1 MiB | value
//! ```
//!
//! Numbers are little-endian, nothing follows the last write, and equal batches are equal bytes. A batch comes from whoever
//! may append to the stream, so the decoder takes any bytes and believes no length.

use crate::error::Error;

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
/// Longest key, in bytes.
pub(crate) const KEY_LEN_MAX: usize = 1024;
/// Longest value, in bytes.
pub(crate) const VALUE_LEN_MAX: usize = 1 << 20;
/// Most writes of a batch.
pub(crate) const WRITES_MAX: usize = 65_536;

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// The key has this value from now on.
    Put { key: Vec<u8>, value: Vec<u8> },
    /// The key is gone, if it was there.
    Delete { key: Vec<u8> },
}

impl Write {
    /// A put within the bounds.
    pub(crate) fn put(key: &[u8], value: &[u8]) -> Result<Self, Error> {
        check(key, value)?;
        Ok(Self::Put { key: key.to_owned(), value: value.to_owned() })
    }

    /// A delete within the bounds.
    pub(crate) fn delete(key: &[u8]) -> Result<Self, Error> {
        check(key, &[])?;
        Ok(Self::Delete { key: key.to_owned() })
    }
}

fn check(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if !(1..=KEY_LEN_MAX).contains(&key.len()) {
        return Err(Error::Batch("a key has 1 to 1,024 bytes"));
    }
    if value.len() > VALUE_LEN_MAX {
        return Err(Error::Batch("a value has at most 1 MiB"));
    }
    Ok(())
}

/// The payload of an event.
pub(crate) fn encode(writes: &[Write]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put_len(&mut bytes, writes.len());
    for write in writes {
        let (tag, key) = match write {
            Write::Put { key, .. } => (PUT, key),
            Write::Delete { key } => (DELETE, key),
        };
        bytes.push(tag);
        bytes.extend(u16::try_from(key.len()).expect("keys are checked when they are made").to_le_bytes());
        bytes.extend(key);
        if let Write::Put { value, .. } = write {
            put_len(&mut bytes, value.len());
            bytes.extend(value);
        }
    }
    bytes
}

fn put_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend(u32::try_from(len).expect("writes are checked when they are made").to_le_bytes());
}

/// The writes of a payload.
///
/// # Errors
/// [`Error::Batch`] for whatever [`encode`] does not make.
pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Write>, Error> {
    let mut rest = payload;
    if take::<1>(&mut rest)? != [VERSION] {
        return Err(Error::Batch("it is of another version"));
    }
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    if count > WRITES_MAX {
        return Err(Error::Batch("it has too many writes"));
    }
    let mut writes = Vec::new();
    for _ in 0..count {
        let [tag] = take(&mut rest)?;
        let key_len = u16::from_le_bytes(take(&mut rest)?).into();
        let key = run(&mut rest, key_len)?;
        writes.push(match tag {
            PUT => {
                let value_len = u32::from_le_bytes(take(&mut rest)?) as usize;
                Write::put(key, run(&mut rest, value_len)?)?
            }
            DELETE => Write::delete(key)?,
            _ => return Err(Error::Batch("it has a write of an unknown kind")),
        });
    }
    if rest.is_empty() { Ok(writes) } else { Err(Error::Batch("something follows its last write")) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    run(rest, N).map(|bytes| bytes.try_into().expect("a run is as long as was asked for"))
}

fn run<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Error> {
    let (run, after) = rest.split_at_checked(len).ok_or(Error::Batch("it ends too early"))?;
    *rest = after;
    Ok(run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write() -> impl Strategy<Value = Write> {
        let key = || proptest::collection::vec(any::<u8>(), 1..40);
        prop_oneof![
            (key(), proptest::collection::vec(any::<u8>(), 0..80))
                .prop_map(|(key, value)| Write::Put { key, value }),
            key().prop_map(|key| Write::Delete { key }),
        ]
    }

    proptest! {
        #[test]
        fn batches_come_back(writes in proptest::collection::vec(write(), 0..20)) {
            let bytes = encode(&writes);
            prop_assert_eq!(decode(&bytes).unwrap(), writes);
            for len in 0..bytes.len() {
                prop_assert!(decode(&bytes[..len]).is_err());
            }
            prop_assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn what_is_decoded_is_what_is_encoded(bytes in proptest::collection::vec(0..4u8, 0..40)) {
            if let Ok(writes) = decode(&bytes) {
                prop_assert_eq!(encode(&writes), bytes);
            }
        }
    }

    #[test]
    fn bounds_hold() {
        Write::put(&[0; KEY_LEN_MAX], &[0; VALUE_LEN_MAX]).unwrap();
        Write::put(&[0; KEY_LEN_MAX + 1], &[]).unwrap_err();
        Write::put(&[0], &[0; VALUE_LEN_MAX + 1]).unwrap_err();
        Write::delete(&[]).unwrap_err();
        decode(&[&[VERSION][..], &u32::MAX.to_le_bytes()].concat()).unwrap_err();
    }
}
