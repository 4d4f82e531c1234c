"""The null: similarities of unrelated images, and thresholds that keep a false-positive rate. Arrays in, numbers out."""
