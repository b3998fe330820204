"""For sites: one module or folder for each framework."""
