//! Running a fuzz body over its seeds, and giving them to a fuzzer.

use std::path::PathBuf;

/// Runs `body` over `seeds`. With `FUZZ_CORPUS` set to a folder, they are written to `NAME` in it: `scripts/fuzz` starts
/// from them.
pub(crate) fn over<T: AsRef<[u8]>>(name: &str, body: fn(&[u8]), seeds: &[T]) {
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| body(seed.as_ref()));
    let Some(folder) = std::env::var_os("FUZZ_CORPUS").map(|folder| PathBuf::from(folder).join(name)) else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
    }
}
