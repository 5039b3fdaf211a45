"""Pure functions of the metadata reader: values, dates, places, and the dictionary of all tags."""
