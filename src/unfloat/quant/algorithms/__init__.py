"""Algorithms that improve a calibrated Simulation, one a file."""
