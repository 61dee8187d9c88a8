"""``python -m trio_model_runner`` is the command ``trio-model-runner``."""

from .cli import main

if __name__ == "__main__":
    main()
