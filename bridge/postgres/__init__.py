"""The database edge: everything that speaks to PostgreSQL."""
