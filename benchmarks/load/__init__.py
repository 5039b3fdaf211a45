"""Making load and measuring it: the generator, CPU accounting, and figures of one run."""
