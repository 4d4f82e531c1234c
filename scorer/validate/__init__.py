"""Does VR separate copying from transforming? Controlled truth, labelled outputs, baselines beside it."""
