"""What pgbridge is measured beside, and how each of them is started."""
