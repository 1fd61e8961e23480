"""Model files: read without trusting them (weights.py is the door), and the corpus that shows that this holds."""
