"""The demo: an ordinary site, and a bridge beside it."""
