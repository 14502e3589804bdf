"""Kills at chosen points of the hand-over of a batch from the loader process to the training."""

from enum import StrEnum


class Point(StrEnum):
    """Who is killed, and where in the hand-over of a batch."""

    CHILD_FILLED = "the loader process, once the buffer is filled and before its message"
    CHILD_HALF_SENT = "the loader process, when half of the message is written"
    CHILD_SENT = "the loader process, once the message is written"
    PARENT_HALF_SENT = "the training, when half of the message is written"
    PARENT_RECEIVED = "the training, once it has received the message"
    PARENT_GIVES_BACK = "the training, before it gives the buffer back"

    @property
    def kills_child(self) -> bool:
        """Whether it is the loader process that is killed."""
        return self.name.startswith("CHILD")

    def code(self, number: int) -> str:
        """What both processes run first (`run_in_both`). The kill is at batch `number` >= 1."""
        return _CODE.format(name=self.name, number=number)


_CODE = """
import os, pickle, signal, struct, sys
from loaders.loader_process import messages

NAME, NUMBER, num_made = {name!r}, {number}, 0
send, receive, slot_message = messages.send, messages.receive, messages.slot_message


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def sent(connection, message):
    global num_made
    num_made += isinstance(message, messages.Made)
    if not isinstance(message, messages.Made) or num_made != NUMBER:
        return send(connection, message)
    if NAME == "CHILD_FILLED":
        kill(os.getpid())
    if NAME in ("CHILD_HALF_SENT", "PARENT_HALF_SENT"):
        data = pickle.dumps((message, []))
        data = struct.pack("!i", len(data)) + data  # as a Connection frames it
        half = len(data) // 2
        os.write(connection.fileno(), data[:half])
        kill(os.getpid() if NAME == "CHILD_HALF_SENT" else os.getppid())
        os.write(connection.fileno(), data[half:])
        return
    send(connection, message)
    if NAME == "CHILD_SENT":
        kill(os.getpid())


def received(connection):
    global num_made
    message = receive(connection)
    num_made += isinstance(message, messages.Made)
    if NAME == "PARENT_RECEIVED" and num_made == NUMBER:
        kill(os.getpid())
    return message


def given_back(slot):
    if NAME == "PARENT_GIVES_BACK" and num_made == NUMBER:
        kill(os.getpid())
    return slot_message(slot)


broken = {{"send": sent, "receive": received, "slot_message": given_back}}
whole = {{name: getattr(messages, name) for name in broken}}
for name, module in list(sys.modules.items()):
    if name.startswith("loaders.loader_process"):  # which may have imported them by name
        for function in broken:
            if getattr(module, function, None) is whole[function]:
                setattr(module, function, broken[function])
"""
