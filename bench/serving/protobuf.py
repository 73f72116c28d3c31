"""Messages of Protocol Buffers whose fields all have a length, which is all that the bench sends and reads over gRPC.
So it needs no generated code, whose version would have to fit that of the installed library."""


def varint(value):
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes(data) + bytes([value])


def field(number, data):
    """A field of Protocol Buffers that has a length: text, bytes, a message, packed numbers."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(message):
    """(number, bytes) of a message that has only such fields."""
    place = 0

    def read():
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(message):
        key, length = read(), read()
        if key & 7 != 2:
            raise ValueError(f"field {key >> 3} is of another type")
        yield key >> 3, message[place:place + length]
        place += length
