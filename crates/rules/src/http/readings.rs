//! Other paths that a server behind us may read in a canonical one (safety.md 131).
//!
//! Some decode `%2F` before they route, some cut parameters (`;x`) off each segment, some do both. Such paths have honest uses, so
//! they are not refused; but where another reading would take another route, nobody can tell which rule was meant.

/// The other readings of a canonical path; none for nearly all.
pub fn readings(path: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let slashed = memchr::memmem::find(path.as_bytes(), b"%2F").map(|_| collapsed(&path.replace("%2F", "/")));
    let both = slashed.as_deref().filter(|path| path.contains(';')).map(bare);
    let bare = path.contains(';').then(|| bare(path));
    for reading in [slashed, bare, both].into_iter().flatten() {
        if reading != path && !found.contains(&reading) {
            found.push(reading);
        }
    }
    found
}

/// Without the parameters of its segments.
fn bare(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    collapsed(&segments.collect::<Vec<_>>().join("/"))
}

/// Without empty segments, but for the last.
fn collapsed(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_can_be_read_otherwise_have_readings() {
        for (path, expected) in [
            ("/a/b.c", &[][..]),
            ("/a%20b", &[]),
            ("/admin%2F", &["/admin/"]),
            ("/x/%2Fadmin", &["/x/admin"]),
            ("/%2Fadmin", &["/admin"]),
            ("/admin;x/y", &["/admin/y"]),
            ("/;x/admin", &["/admin"]),
            ("/admin;x%2Fy", &["/admin;x/y", "/admin", "/admin/y"]),
        ] {
            assert_eq!(readings(path), expected, "{path}");
        }
    }
}
