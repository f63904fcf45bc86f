"""The catalogue of attacks and faults: every numbered case, which test shows it, and the table of `make safety`."""
