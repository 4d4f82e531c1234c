"""From prompts to images of a text-to-image model, each with what made it."""
