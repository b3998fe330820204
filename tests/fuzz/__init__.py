"""Fuzz programs: bytes and texts that nobody sane would send.

    python -m fuzz --seconds 60

inputs.py       makes them, from grammars and by mutation
targets.py      what they are given to, and the law for it; the registry
reference.py    a second frame parser, to compare with
run.py          many inputs, one target, and the bounds of time and memory
live.py         the same against a running server
"""
