"""Asks a broker which requests it offers, so that a test of a later feature can say why it did not run."""

import socket
import struct


def offers(address, api_key):
    """Whether ApiVersions (version 0) lists a request."""
    host, port = address.rsplit(":", 1)
    header = struct.pack(">hhih", 18, 0, 1, -1)  # key, version, correlation id, no client id
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(header)) + header)
        with connection.makefile("rb") as answers:
            (size,) = struct.unpack(">i", answers.read(4))
            _correlation, error, count = struct.unpack(">ihi", answers.read(10))
            assert error == 0, f"ApiVersions failed with {error}"
            return api_key in [key for key, _, _ in struct.iter_unpack(">hhh", answers.read(size - 10)[: count * 6])]
