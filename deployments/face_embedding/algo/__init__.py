"""Pure functions of face embedding: the quality of a face."""
