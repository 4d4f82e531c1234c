"""From rows to findings: statistics on stored maxima, with intervals. Nothing is embedded."""
