"""How much the checks of the served model catch: small patches of the real server, each a weakness to be found."""
