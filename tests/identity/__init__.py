"""Real services that know people: a JupyterHub, a Kerberos realm. ``make test-identity`` installs and runs them."""
