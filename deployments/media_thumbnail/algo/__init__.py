"""Pure functions of thumbnails: where the picture goes, its colours, its file, its first frame."""
