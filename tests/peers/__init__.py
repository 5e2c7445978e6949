"""Other people's runtimes, run as witnesses of exported files."""
