"""Dialogues between a client, Penstock and an origin, over real loopback sockets."""
