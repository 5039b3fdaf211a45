"""Pure functions of face embedding: the models' input, and the quality of a face."""
