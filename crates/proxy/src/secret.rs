//! Secrets, from where a plan says that they are found: it never holds one.

use penstock_plan::Secret;
use std::fs::File;
use std::io::Read;

/// Longer ones are a mistake in the path.
const LONGEST: u64 = 64 << 10;

/// A secret of at least so many bytes, less the ends of lines behind it. The message of a failure never holds it.
pub(crate) fn read(secret: &Secret, shortest: usize) -> Result<Vec<u8>, String> {
    let (mut bytes, place) = match secret {
        Secret::Env(name) => match std::env::var_os(name) {
            Some(value) => (value.into_encoded_bytes(), format!("the environment variable {name}")),
            None => return Err(format!("the environment variable {name} is not set")),
        },
        Secret::File(path) => {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
            read.map_err(|error| format!("{path} cannot be read: {error}"))?;
            (bytes, path.clone())
        }
    };
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    match bytes.len() {
        length if length < shortest => Err(format!("{place} holds less than {shortest} bytes: too short for a secret")),
        length if length as u64 > LONGEST => Err(format!("{place} is longer than a secret can be")),
        _ => Ok(bytes),
    }
}
