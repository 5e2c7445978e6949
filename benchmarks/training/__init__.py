"""Training experiments: each is a command that may be stopped and started again, and writes to docs/results/."""
