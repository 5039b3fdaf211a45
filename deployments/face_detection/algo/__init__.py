"""Pure functions of face detection: views, decoding, suppression."""
