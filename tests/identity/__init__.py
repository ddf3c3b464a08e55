"""Real ones that know people: a JupyterHub, an OpenID provider, a Kerberos realm, and this machine with two accounts.

``make test-identity`` installs what that takes, and runs the tests of this folder; ``make test`` runs all others.
"""
