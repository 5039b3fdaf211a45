"""Pure functions of dominant colours."""
