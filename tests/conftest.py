"""One torch thread for each process of the suite, so that parallel tests do not fight over cores."""

import torch

torch.set_num_threads(1)
