"""One `get_config()` per experiment, built on `configs/base.py`."""
