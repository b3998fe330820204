"""Real parts for tests: a PostgreSQL, a Gunicorn, clients, a TCP proxy."""
