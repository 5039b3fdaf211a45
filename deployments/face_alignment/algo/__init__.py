"""Pure functions of face alignment: the similarity transform, the template, the warp."""
