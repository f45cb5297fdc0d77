"""Be a worker: `python -m ferryman.batch SOCKET`."""

from ferryman.batch.worker import main

main()
