"""Load with a memory: every answer is checked against what was asked. For tests/product and `python -m tests.soak`."""
