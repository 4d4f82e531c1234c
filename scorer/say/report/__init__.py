"""A site of static pages that shows which patch of which generated image came from where."""
