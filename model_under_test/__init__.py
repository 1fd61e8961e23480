"""The default subject of the audit: a small MNIST classifier, its data, its training and its release.

Nothing here imports ``audit``: the subject must not know who judges it.
"""
