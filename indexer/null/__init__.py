"""What unrelated references reach: false-positive rates and the thresholds that keep them. Arrays in, numbers out."""
