"""What comes out: targets and verdicts, tables, a JSON file and a plot."""
