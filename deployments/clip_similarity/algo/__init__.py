"""Pure functions of the CLIP similarity."""
