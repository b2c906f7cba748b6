import pytest


@pytest.fixture(scope="package", autouse=True)
def quick_compilation():
    """Many small programs are compiled here and run once: compiling them well would take longer."""
    import jax  # not before tests/conftest.py has set it up

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
