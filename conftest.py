"""Loads the audit plugin, for audits and for the harness's own tests alike."""

pytest_plugins = ["audit.plugin", "pytester"]
