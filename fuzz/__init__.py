"""Fuzzing: `python -m fuzz --seconds 600` (docs/testing.md).

The Rust targets and their properties are the crate in this folder; `expressions.py` is the half that fuzzes Python; the
rest builds, runs and tells. What must not live here: tests with a fixed input (those are beside the code)."""
