"""A device process that does what each task's `preset` says, word by word, in place of filling photos.

`begin`, `step`, `nearly`, `done`: send that. `fill`: write 7 into the hole. `wait FILE`: until the file is there.
`hang`, `stop`, `die`, `device`, `memory`, `nonsense`: what a device process can suffer. As its start's network:
`refuse`: it cannot start; `once FILE`: only the first one can.
"""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from images.codec import wire
from images.codec.shared import SharedArray
from worker.device import messages
from worker.device.channel import Channel

FACTS = {
    "name": "scripted",
    "parameter": ["auto"],
    "loaded": True,
    "stride": 8,
    "native_size": 512,
    "bytes_per_refined_pixel": 1,
    "bytes_per_forward_pixel": 1,
}


class Child:
    def __init__(self, end):
        self.channel = Channel(socket.socket(fileno=end))
        self.cancelled = set()

    def run(self):
        start, _ = self.channel.receive()
        word, _, argument = start.network.partition(" ")
        self.channel.send(messages.Device(start.device, 8 * 2**30))
        if word == "refuse" or (word == "once" and Path(argument).exists()):
            self.channel.send(messages.NotReady("it does not want to"))
            return
        if word == "once":
            Path(argument).touch()
        self.channel.send(messages.Ready("scripted", [FACTS], ["builtin"]))
        tasks = []
        while True:
            message, files = self.channel.receive()
            if isinstance(message, messages.Task):
                tasks.append(threading.Thread(target=self.work, args=(message, files, tasks[-1:]), daemon=True))
                tasks[-1].start()
            elif isinstance(message, messages.Cancel):
                self.cancelled.add(message.number)

    def work(self, task, files, before):
        for thread in before:
            thread.join()
        for line in task.preset["script"]:
            word, _, argument = line.partition(" ")
            if task.number in self.cancelled:
                self.channel.send(messages.Cancelled(task.number))
                return
            getattr(self, word)(task, files, argument)

    def begin(self, task, files, argument):
        self.channel.send(messages.Begun(task.number))

    def step(self, task, files, argument):
        self.channel.send(messages.Step(task.number, 0.5, 1, 1, 1, 2, 1, 2))

    def nearly(self, task, files, argument):
        self.channel.send(messages.Nearly(task.number))

    def fill(self, task, files, argument):
        pixels, hole = files
        photo = SharedArray(task.shape, task.dtype, fd=pixels)
        photo.array[SharedArray(task.shape[:2], bool, fd=hole).array] = 7

    def done(self, task, files, argument):
        height, width = task.shape[:2]
        self.channel.send(messages.Done(task.number, "scripted", "cpu", {}, 10.0, 0.5, 1, height, width))

    def wait(self, task, files, argument):
        while not Path(argument).exists() and task.number not in self.cancelled:
            time.sleep(0.01)

    def hang(self, task, files, argument):
        time.sleep(600)

    def stop(self, task, files, argument):
        os.kill(os.getpid(), signal.SIGSTOP)

    def die(self, task, files, argument):
        os.kill(os.getpid(), signal.SIGKILL)

    def device(self, task, files, argument):
        self.channel.send(messages.Failed(task.number, "device", "CUDA error: launch failure", "a traceback"))
        os._exit(70)

    def memory(self, task, files, argument):
        self.channel.send(messages.Failed(task.number, "memory", "too little", "a traceback"))

    def nonsense(self, task, files, argument):
        wire.send(self.channel._socket, {"kind": "Nonsense"})


if __name__ == "__main__":
    Child(int(sys.argv[1])).run()
