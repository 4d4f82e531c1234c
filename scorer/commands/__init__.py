"""The command line of scoring, reading and checking."""
