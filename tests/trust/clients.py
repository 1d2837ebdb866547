"""Clients that each have a thread and ask until they are told to stop."""

import threading
from collections.abc import Iterable


class Clients:
    """One thread for each of `whom`, in `ask`, from the beginning of a `with` to its end."""

    def __init__(self, whom: Iterable):
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(one,)) for one in whom]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def ask(self, one):
        """Asks for this one until `stopped` is set."""
        raise NotImplementedError
