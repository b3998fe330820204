"""Every fault that is known, injected while subscribers and writers work."""
