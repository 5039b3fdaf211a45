"""How capabilities are served: the graph on Ray Serve, HTTP, handles and the command line."""
