"""Committed PostgreSQL changes to browsers, from inside Gunicorn."""

__version__ = "0.1.0"
