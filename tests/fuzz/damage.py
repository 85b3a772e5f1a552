"""Bytes as disks, networks and enemies leave them."""

from __future__ import annotations

NUMBERS = [0, 1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 1000, 2**15, 2**16 - 1, 2**24,
           2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
TEXT = b"0123456789,.;:\"'\\{}[]()-+eE \n\t\rnaifNuL_#\x00\xff\xc3"


def place(rng, size, ends):
    """Where; near the ends, where headers and footers are, if it is one of those files."""
    if size == 0:
        return 0
    if ends and rng.random() < 0.7:
        near = int(min(size, rng.choice([8, 64, 300, 2000])))
        at = int(rng.integers(0, near))
        return at if rng.random() < 0.5 else size - 1 - at
    return int(rng.integers(0, size))


def damaged(rng, data, ends=True, text=False):
    """Other bytes than those."""
    data = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3, 8]))):
        at = place(rng, len(data), ends)
        kind = rng.choice(["flip", "byte", "number", "cut", "insert", "remove", "copy", "zero"])
        if kind == "flip" and data:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == "byte" and data:
            data[at] = TEXT[rng.integers(len(TEXT))] if text else int(rng.integers(0, 256))
        elif kind == "number" and data:
            number = NUMBERS[rng.integers(len(NUMBERS))]
            if text:
                number = str(number - 2**63 if rng.random() < 0.2 else number).encode()
            else:
                width = int(rng.choice([1, 2, 4, 8]))
                number = (number % 256**width).to_bytes(width, rng.choice(["little", "big"]))
            data[at : at + len(number)] = number
        elif kind == "cut" and rng.random() < 0.3:
            del data[at:]
        elif kind == "insert":
            count = int(rng.choice([1, 2, 8, 100]))
            data[at:at] = bytes(rng.choice(list(TEXT), count) if text else rng.bytes(count))
        elif kind == "remove":
            del data[at : at + int(rng.choice([1, 2, 8, 100]))]
        elif kind == "copy":
            other = place(rng, len(data), ends)
            count = int(rng.choice([1, 4, 8, 60]))
            data[at : at + count] = data[other : other + count]
        elif kind == "zero":
            count = int(rng.choice([1, 4, 16, 200]))
            data[at : at + count] = bytes(len(data[at : at + count]))
    return bytes(data)
