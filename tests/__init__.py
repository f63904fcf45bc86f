"""Tests of the whole program; docs/testing.md says which layer a new test belongs to."""
