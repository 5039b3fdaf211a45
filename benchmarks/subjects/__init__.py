"""What is measured: bare processes, the plain FastAPI peer, and cl-ml-serve itself."""
