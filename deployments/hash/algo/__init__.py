"""Pure functions of hashing: of bytes, of pixels, and of looks."""
