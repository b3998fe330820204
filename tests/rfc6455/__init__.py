"""Autobahn's test suite for RFC 6455 against the WebSocket of pgbridge.

The suite talks to an echo, which pgbridge is not: so an echo stands in the
conversation's place, on the real connection, worker and server (`echo`).
"""
