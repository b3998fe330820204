"""Gunicorn configuration and server hooks, as the wheel ships them."""
