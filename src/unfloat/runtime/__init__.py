"""Running: the native engine behind a small Python class. Needs NumPy only."""
