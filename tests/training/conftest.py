from tests.compilation import quick_compilation  # noqa: F401  # used by all tests here
