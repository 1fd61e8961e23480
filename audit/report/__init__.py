"""Renders the one Report record: JSON for machines, SARIF for code-scanning pages, HTML for people."""
