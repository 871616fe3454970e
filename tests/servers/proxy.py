"""A TCP proxy before a Valkey. It can lose answers: the command is carried out, and the client never hears of it."""

import contextlib
import socket
import threading


class Proxy:
    """Listens on 127.0.0.1, `url`; passes everything to the unix socket of a Valkey. Use as a context manager.

    tls: the context of a server that is reached over TLS.
    """

    def __init__(self, valkey_url, tls=None):
        self._tls = tls
        self._target = valkey_url.removeprefix("unix://")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock, self._word, self._most = threading.Lock(), None, None
        self.dropped = 0  # answers that were lost so far
        self._sockets, self._threads = [self._listener], []
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _end(self._listener)
        self._threads[0].join()  # no more sockets from here on
        for each in self._sockets:
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def drop_reply(self, word):
        """The next command that has this word in it is answered by the end of its connection."""
        self.drop_replies(word, most=1)

    def drop_replies(self, word, most=None):
        """The same for so many, all if it is not given, until it is called again; None: for no more."""
        with self._lock:
            self._word, self._most = None if word is None else word.encode(), most

    def _start(self, target, *arguments):
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._tls:
                    try:
                        client = self._tls.wrap_socket(client, server_side=True)
                    except OSError:  # the client does not like it
                        client.close()
                        continue
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                server.connect(self._target)
                doomed = threading.Event()
                self._start(self._requests, client, server, doomed)
                self._start(self._replies, client, server, doomed)

    def _requests(self, client, server, doomed):
        for data in _chunks(client):
            with self._lock:
                if self._word is not None and self._most != 0 and self._word in data:
                    self._most = self._most and self._most - 1
                    doomed.set()
            with contextlib.suppress(OSError):
                server.sendall(data)
        _end(server)

    def _replies(self, client, server, doomed):
        for data in _chunks(server):
            if doomed.is_set():
                self.dropped += 1
                break
            with contextlib.suppress(OSError):
                client.sendall(data)
        _end(client)
        _end(server)


def _chunks(source):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            yield data


def _end(each):
    """Shut it: closing alone would not wake the thread that waits for it."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
