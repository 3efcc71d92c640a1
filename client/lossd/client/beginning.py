"""Threads that begin, or an error that tells that the system had none."""

import threading

from lossd.client.errors import is_no_thread, no_thread_error


def begin_thread(thread: threading.Thread) -> None:
    """Begins a thread.

    Raises:
        UnavailableError: if the system has none.
    """
    try:
        thread.start()
    except RuntimeError as error:
        if is_no_thread(error):
            raise no_thread_error(error) from error
        # Python lost a lock amid its wait for the thread: what a signal's handler raised there.
        raise error.__context__ or error  # noqa: B904 - it is no cause
