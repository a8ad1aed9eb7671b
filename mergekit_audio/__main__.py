"""``python -m mergekit_audio``: the command line, also for ``torchrun -m mergekit_audio``."""

from mergekit_audio.cli.main import main

if __name__ == "__main__":
    main()
