"""Renders the one Report record: JSON for machines, HTML for people."""
