"""Load with a memory: every answer is checked against what was asked. Used by tests/product and `python -m tests.soak`."""
