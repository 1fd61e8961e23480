"""Third-party code in processes of its own."""
