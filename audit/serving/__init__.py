"""The audited model as a service: a real server process on the loopback address, attacked over real HTTP."""
