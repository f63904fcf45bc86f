"""The differential test: what Penstock forwards, every other reader reads alike.

Generated requests (`generate.py`) go through a real Penstock to an origin that records bytes (`traffic.py`); then each
of `readers/` reads the recordings, and all must find the same requests, as many as Penstock counted (`lane.py`).
`python -m tests.differential --requests 1000000` is the full run."""
