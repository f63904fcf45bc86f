"""Side-by-side measurements of Penstock and its peers (`python -m bench`); docs/performance.md says how to read them.

Here live the stand (programs, cores, ports), the peers, one module per group of rows, and the reports. Nothing of the
product is imported: Penstock is measured as it is installed, through its command.
"""
