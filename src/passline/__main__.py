"""Runs the command line with `python -m passline`."""

from passline.cli import main

main()
