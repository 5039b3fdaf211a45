"""Benchmarks: the service against bare processes and a plain FastAPI service, on one machine.

``python -m benchmarks`` runs them; ``README.md`` says how to read them and what makes them fair.
The package uses the public faces only, as a user would: the capability classes, the ``cl-serve``
command, HTTP and the Python handles.
"""
