"""A local page for a whole study: folders, run, evidence, labels, tables."""
