"""Variables of the environment that look like settings, and are none."""

import os

from lossd.naming import guess
from lossd.serving.config import settings, unknown_variables


def misspelt_variables() -> dict[str, str]:
    """Returns them by name, each with the end of a sentence: which one may have been meant."""
    known = [setting.variable for setting in settings()]
    return {name: guess(name, known) for name in unknown_variables(os.environ)}
