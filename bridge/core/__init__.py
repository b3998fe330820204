"""Who wants what, and who is where: no socket, no database, no greenlet."""
