"""Arrays in, arrays out: maxima, measures, intervals, thresholds."""
