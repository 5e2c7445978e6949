"""The integer network: instructions, interpreter, verifier, memory plan, file. Needs NumPy only."""
