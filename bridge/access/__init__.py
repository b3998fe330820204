"""Who may connect, and to what."""
