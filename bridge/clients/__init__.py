"""The client edge: sockets, the handshake, connections."""
