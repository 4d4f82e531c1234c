"""The command line of what stands before scoring."""
