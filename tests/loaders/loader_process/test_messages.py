"""Messages of the loader process arrive unchanged: errors with their causes, and log records."""

import logging
import os
from multiprocessing import Pipe

import av
import pytest

from loaders.loader_process.messages import (
    Done,
    Failed,
    collect_log_records,
    receive,
    send,
    video_error,
)
from shards.decode.packet_decoder import DecodeError
from shards.reader import ShardError
from tests.loaders.forks import forks


def _travelled(failed: Failed) -> Failed:
    ours, theirs = Pipe()
    send(theirs, failed)
    message = receive(ours)
    assert isinstance(message, Failed)
    return message


def test_an_error_keeps_its_type_its_fields_and_its_causes() -> None:
    def damaged() -> None:
        try:
            raise FileNotFoundError(2, "No such file", "a.tar")
        except FileNotFoundError as cause:
            raise ShardError("v1 in a.tar: no such file", is_damage=True) from cause

    with pytest.raises(ShardError) as raised:
        damaged()
    error = video_error(_travelled(Failed.of(raised.value)))
    assert isinstance(error, ShardError)
    assert str(error) == "v1 in a.tar: no such file"
    assert error.is_damage
    assert isinstance(error.__cause__, FileNotFoundError)
    assert error.__cause__.filename == "a.tar"


def test_a_cause_that_cannot_travel_is_a_text() -> None:
    class LocalError(Exception):
        """Unknown on the other side."""

    error = DecodeError("cannot be decoded")
    error.__cause__ = LocalError("why")
    travelled = video_error(_travelled(Failed.of(error)))
    assert isinstance(travelled, DecodeError)
    assert "LocalError: why" in str(travelled.__cause__)


def test_an_error_of_ffmpeg_travels() -> None:
    error = DecodeError("cannot be decoded")
    error.__cause__ = av.InvalidDataError(1094995529, "Invalid data")
    assert "Invalid data" in str(video_error(_travelled(Failed.of(error))).__cause__)


def test_a_mistake_in_the_program_says_where_it_was() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018
    error = _travelled(Failed.of(raised.value)).error
    assert isinstance(error, ZeroDivisionError)
    assert "test_messages.py" in error.__notes__[0]


@forks
def test_log_records_travel(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        collect_log_records(logging.INFO)
        logging.getLogger("shards.files.lock").warning("no locks on %s", "this disk")
        logging.getLogger("shards.files.lock").debug("unimportant")
        send(theirs, Done())
        os._exit(0)
    with caplog.at_level(logging.INFO):
        assert receive(ours) == Done()
    os.waitpid(pid, 0)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("shards.files.lock", "no locks on this disk")
    ]
