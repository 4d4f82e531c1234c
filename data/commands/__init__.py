"""The commands that prepare a study, and the one that runs it as a whole."""
