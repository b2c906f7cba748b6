"""`python -m ektf_jax.cli NAME ...`, which is `ektf NAME ...`."""

from ektf_jax.cli import main

if __name__ == "__main__":
    main()
