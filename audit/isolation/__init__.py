"""Processes in which third-party code runs: networks, data factories and trainers that a policy names.

The audit's own process imports none of it. ``host`` starts such a process and asks it, ``serve`` is what runs in it,
``confine`` what it gives up before it loads anything, and ``wire`` what both ends say.
"""
