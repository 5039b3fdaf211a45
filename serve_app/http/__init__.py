"""HTTP: the ingress deployment, its routes, uploads, encodings and the error table."""
