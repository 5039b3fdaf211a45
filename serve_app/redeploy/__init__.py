"""Redeploying: what a changed file changes, trying it out, and making it so without a gap."""

from serve_app.redeploy.changes import Change, Effect, compare
from serve_app.redeploy.deploy import Redeployment, deploy, rollback, running_file

__all__ = ["Change", "Effect", "Redeployment", "compare", "deploy", "rollback", "running_file"]
