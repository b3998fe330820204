"""RFC 6455 against a live server: cases as data, a runner that knows no mercy.

cases/*.txt     what goes out and what must come back; the language: `script`
script.py       reads those files
lines.py        reads one line of them
steps.py        what one line of a case does
peer.py         the raw client
"""
