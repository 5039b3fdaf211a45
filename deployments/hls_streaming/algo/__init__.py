"""HLS streaming in parts: sizes, FFmpeg's arguments, playlists, and what was written."""
