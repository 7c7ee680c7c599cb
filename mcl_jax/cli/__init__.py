"""The command line: `mcl-jax COMMAND` and `python -m mcl_jax.main`."""
