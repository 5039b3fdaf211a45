"""Pure functions of image conversion: formats, pixels, colours, metadata, animations, writing."""
