"""What is installed: known vulnerabilities, the lock it came from, and bills of materials."""
