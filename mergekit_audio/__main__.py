"""``python -m mergekit_audio``: the command line, also for ``torchrun -m mergekit_audio``."""

import os

from mergekit_audio.cli.main import main

if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ:
        # torch warns of steps that use all parameters, since other steps leave out layers.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    main()
