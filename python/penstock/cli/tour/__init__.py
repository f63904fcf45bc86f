"""The tour that `penstock demo` gives: origins of its own, the stage on which requests are sent and checked, and the
steps.

A new role or feature shows itself by one more function in `steps.py` and one more line in its list.
"""
