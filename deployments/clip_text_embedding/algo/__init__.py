"""Pure functions of the CLIP text embedding: from a text to the model's tokens."""
