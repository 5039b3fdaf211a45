"""Starting and stopping the Ray stack of one machine: Ray, Serve, HAProxy and the graph."""

from serve_app.stack.stack import Progress, RunningStack, Stack, default_state_folder

__all__ = ["Progress", "RunningStack", "Stack", "default_state_folder"]
