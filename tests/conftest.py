import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes with two threads each are slower than with one
os.environ.setdefault("WANDB_MODE", "offline")

import torch

torch.set_num_threads(1)
