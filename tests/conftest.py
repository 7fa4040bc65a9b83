import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("snrise", derandomize=True, max_examples=30, deadline=None)
settings.load_profile("snrise")
