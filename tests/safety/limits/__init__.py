"""Resource exhaustion and its kin (safety.md 112-116, 172, 174) over real sockets."""
