"""The fault catalogue: endpoints, clients, names, clocks and system calls that fail while Penstock serves."""
