"""What single capabilities cost, against what people would otherwise write or run for them.

Each figure is a ratio of two medians measured alternately in one run, so that a machine whose
speed changes meanwhile changes both sides.
"""
