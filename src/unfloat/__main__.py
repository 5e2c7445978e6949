"""`python -m unfloat`: the command line."""

from unfloat.cli.main import main

main()
