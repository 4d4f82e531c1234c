"""Tables, CSV files, figures, pages. Computes nothing."""
