//! Damage to bytes, as a fuzzer does it, for the fuzz bodies in tests.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// Another value; with preference for those at the edges of lengths and counts.
    Overwrite(Index, u8),
    Remove(Index),
    Insert(Index, u8),
    Cut(Index),
    /// A part of the input once more.
    Repeat(Index, Index),
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 0x7F, 0x80, 0xFF])];
    prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
        1 => any::<Index>().prop_map(Damage::Remove),
        1 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

pub(crate) fn damaged(bytes: Bytes, damage: &[Damage]) -> Vec<u8> {
    let mut bytes = Vec::from(bytes);
    for damage in damage {
        if bytes.is_empty() {
            break;
        }
        match *damage {
            Damage::Overwrite(at, byte) => *at.get_mut(&mut bytes) = byte,
            Damage::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Damage::Insert(at, byte) => bytes.insert(at.index(bytes.len()), byte),
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}
