"""The recipe and truth behind ``iconicity demo``; its photographs come from scikit-image at run time."""
