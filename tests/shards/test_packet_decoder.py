"""Packets go to FFmpeg as it wants them."""

import ctypes

from shards.packet_decoder import padded_packet

# FFmpeg's AV_INPUT_BUFFER_PADDING_SIZE.
PADDING_BYTES = 64


def test_zeros_lie_behind_a_packet() -> None:
    """A decoder reads past the end, and what it gives must not depend on other memory."""
    for num_bytes in (1, 63, 64, 1000):
        packet = padded_packet(b"\xff" * num_bytes)
        found = ctypes.string_at(packet.buffer_ptr, num_bytes + PADDING_BYTES)
        assert found == b"\xff" * num_bytes + bytes(PADDING_BYTES)
