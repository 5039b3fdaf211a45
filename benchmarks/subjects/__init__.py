"""What is measured: bare processes, peers, and cl-ml-serve itself."""
