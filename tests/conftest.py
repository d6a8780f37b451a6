"""One torch thread for each process of the suite, so that parallel tests do not fight over cores, and its own cache."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's own cache of data, for what it starts too."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PATHLINE_CACHE"] = str(folder)
    return folder
