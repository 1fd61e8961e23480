"""The model as a service over HTTP: limits, tokens, an audit log and a page to draw on. docs/serving.md is its manual.

``python -m model_under_test.serve`` starts it. Nothing here imports ``audit``: the service is what gets judged.
"""
